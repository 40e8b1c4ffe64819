//! What commands show: pure functions from `v1` objects to text.
//!
//! Promises: no I/O and no clock; the present is an argument. Words, columns and order are kubectl's.
//! Stands last in the flow: commands read state, choose with [`select`], print what comes from here.

pub mod age;
pub mod custom_columns;
pub mod describe;
pub mod describe_object;
pub mod events;
pub mod explain;
pub mod field_selector;
pub mod go_template;
mod go_values;
pub mod job_table;
pub mod jsonpath;
pub mod kyaml;
pub mod object_table;
pub mod plain_text;
pub mod pods;
pub mod selectors;
pub mod service_table;
pub mod status_column;
pub mod tab_stops;
pub mod timeline;
pub mod yaml;
