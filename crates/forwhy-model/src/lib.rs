//! Models on servers: what is sent to them, what came back, and what it cost.
//!
//! A request of `forwhy-core` becomes the body of a dialect ([`wire::body`]); what came back is read
//! by [`wire::read`], which is total: every odd reply is a value of [`wire::Received`]. Bytes are kept
//! as they came, so that a better reader reads them again for nothing.
//!
//! The flow of one run: [`endpoint`] checks whom to ask, [`identity`] asks which weights answer,
//! [`requests`] reads the file, [`client::many`] keeps requests in flight ([`batch`] sends them in
//! batches), [`check`] proves settings on the wire, [`ledger`] keeps everything under its [`key`],
//! within [`limit`]s and a [`budget`]; [`remote::RemoteModel`] is all of it as a `core` model.

pub mod batch;
pub mod budget;
pub mod check;
pub mod client;
pub mod endpoint;
pub mod identity;
pub mod key;
pub mod ledger;
pub mod limit;
pub mod plan;
pub mod progress;
pub mod remote;
pub mod requests;
pub mod secret;
pub mod wire;
