//! The receive loop over the sockets of a worker's queues and its UDP sockets.
