//! What commands say and keep: objects, tables, images, the table of fields.

#[path = "../common/mod.rs"]
mod common;

mod apply;
mod book;
mod changes;
mod fields;
mod images;
mod objects;
mod views;
mod words;
