//! Sessions, links that work once, and administrators: as they are used.
