//! The integration suites; this list is their table of contents.

mod scene;

mod inbound;
mod outbound;
