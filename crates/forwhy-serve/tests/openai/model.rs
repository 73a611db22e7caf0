//! A tiny model whose template knows tools, with an adapter that was taught to call one.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use forwhy_core::chat::{Message, Role};
use forwhy_core::tool::{ToolCall, ToolDefinition};
use forwhy_engine::host::Adapter;
use forwhy_engine::llama::{NamedTensor, Scope};
use forwhy_engine::local::LocalModel;
use forwhy_engine::pack::Pack;
use forwhy_engine::trainer::{TrainConfig, Trainer};
use forwhy_engine::weights;
use forwhy_testkit::tiny_model::{CONTROL, tiny_model_dir};
use serde_json::json;

/// ChatML with tools, as Hermes writes calls. Of a tool it shows the name.
const TEMPLATE: &str = "{% if tools %}<|im_start|>system\nTools:{% for tool in tools %} \
    {{ tool.function.name }}{% endfor %}<|im_end|>\n{% endif %}\
    {% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content }}\
    {% if message.tool_calls %}{% for call in message.tool_calls %}{{ '<tool_call>{\"name\": \"' + \
    call.function.name + '\", \"arguments\": ' + call.function.arguments | tojson + '}</tool_call>' }}\
    {% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What the taught adapter calls, and says when it has the result.
pub(super) const CALL: (&str, &str) = ("add", "{\"x\": 2, \"y\": 3}");
pub(super) const ANSWER: &str = "Five.";
pub(super) const QUESTION: &str = "What is 2 + 3?";

pub(super) fn local_model() -> LocalModel {
    let dir = tempfile::tempdir().unwrap();
    tiny_model_dir(dir.path(), 1).unwrap();
    let config = json!({
        "bos_token": CONTROL[1], "eos_token": CONTROL[2], "pad_token": CONTROL[2],
        "chat_template": TEMPLATE,
    });
    write(&dir.path().join("tokenizer_config.json"), &config.to_string());
    LocalModel::load(weights::open(dir.path()).unwrap(), 1).unwrap()
}

fn write(path: &Path, text: &str) {
    File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

type Tensors = (Scope, Vec<NamedTensor>);

/// `caller` calls a tool where one is offered; `lora` is a LoRA that says other things than the base.
pub(super) fn adapters() -> Vec<Adapter> {
    static TAUGHT: OnceLock<[Tensors; 2]> = OnceLock::new();
    let taught = TAUGHT.get_or_init(|| {
        let lora = Scope::Lora { rank: 4, alpha: 8.0 };
        let hello = [Message::user("Hi"), Message::assistant("Hello there!")];
        [teach(Scope::All, &tool_chats(), 160), teach(lora, &[(hello.into(), Vec::new())], 20)]
    });
    ["caller", "lora"]
        .into_iter()
        .zip(taught.clone())
        .map(|(name, (scope, weights))| Adapter { name: name.into(), scope, weights })
        .collect()
}

type Chat = (Vec<Message>, Vec<ToolDefinition>);

/// The question with the call, and with the result and the answer; the system turn of a client too.
fn tool_chats() -> Vec<Chat> {
    let parameters = json!({"type": "object", "properties": {}});
    let tool = ToolDefinition { name: CALL.0.into(), description: String::new(), parameters };
    let call = ToolCall { id: "c".into(), name: CALL.0.into(), arguments: CALL.1.into() };
    let mut chat = vec![Message::user(QUESTION)];
    chat.push(Message { tool_calls: vec![call], ..Message::new(Role::Assistant, "") });
    let asked = chat.clone();
    chat.push(Message::tool_result("c", "5"));
    chat.push(Message::assistant(ANSWER));
    vec![(asked, vec![tool.clone()]), (chat, vec![tool])]
}

fn teach(scope: Scope, chats: &[Chat], steps: usize) -> Tensors {
    let model = local_model();
    let mut packs = Vec::new();
    for (chat, tools) in chats {
        let rendered = model.tokenizer().chat(chat, tools, false).unwrap();
        let mut pack = Pack::new();
        pack.push_sequence(&rendered.ids, &rendered.trained);
        packs.push(pack);
    }
    let lent = model.with_llama(|llama| {
        let config = TrainConfig {
            scope,
            learning_rate: 3e-3,
            total_steps: steps,
            ..TrainConfig::default()
        };
        let mut trainer = Trainer::new(llama, config).unwrap();
        (0..steps).for_each(|_| {
            trainer.step(&packs).unwrap();
        });
    });
    lent.unwrap();
    (scope, model.export_scope(scope).unwrap())
}
