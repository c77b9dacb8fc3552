//! The integration suites; this list is their table of contents.
