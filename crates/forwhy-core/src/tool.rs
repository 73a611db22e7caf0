//! Tools: what a model may call, and what it called.
//!
//! Arguments are kept as the JSON text that the model wrote. Whether they parse, and whether they fit
//! the tool's schema, is for the reader to say: a call with broken arguments is still a call.

use serde::{Deserialize, Serialize};

/// A function that a model may call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolDefinition {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: String,
    /// JSON Schema of its arguments, an object.
    pub parameters: serde_json::Value,
}

/// A call that a model wrote.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// Names the call within its chat; the result refers to it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text as the model wrote it; it need not parse.
    pub arguments: String,
}
