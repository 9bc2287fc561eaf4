//! Followers and a server that is made up.
