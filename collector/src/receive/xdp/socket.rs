//! One AF_XDP socket, bound to one queue of an interface.
