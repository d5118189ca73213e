//! Ways to break what these cases are about, and the case that shows each.
