//! What Flowsluice's XDP program and its user space share: the frame header parser.
#![no_std]
#![forbid(unsafe_code)]
