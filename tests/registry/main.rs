//! Both registries keep every promise of the trait, through restarts, crashes and lost connections.

mod embedded;
mod kills;
mod migrations;
mod postgres;
mod promises;
mod server;
mod support;
