//! Where bytes and facts are kept: a directory or a bucket, behind one opendal operator.

pub mod disk;
