//! The memory that frames lie in, and the tokens that say who may use one.
