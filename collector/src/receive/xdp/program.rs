//! Loads the XDP program, attaches it to an interface and fills its maps.
