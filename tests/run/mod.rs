//! `wasmpod run` and its kin against a daemon, with real guests.

mod commands;
mod files;
mod kit;
mod lifecycle;
mod order;
mod pulls;
mod survival;
mod users;
