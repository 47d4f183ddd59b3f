//! Hooks that a pod brings for itself: the image that its annotation names is pulled and checked
//! before the sandbox is made, and hooks are called where they live, in the pod's shim.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Runtime;
use super::client::failure;
use super::order::wire_code;
use crate::error::{Error, Result};
use crate::image::{CodeForm, Image, ImageProgram, Imported, Name, Pull, Search};
use crate::interface::{Answer, Call};
use crate::lifecycle::{Manifest, View, settings, settle};
use crate::model::ids::SandboxId;
use crate::model::sandbox::{OwnHooks, Sandbox, SandboxConfig, SandboxName};
use crate::proto::shim as wire;
use crate::proto::shim::hook_word::Word;
use crate::telemetry::trace::phase;

/// The pod's annotation that names the image.
const IMAGE: &str = "wasmpod.dev/hooks";

/// What a pod's own hooks are made of.
pub(super) struct Prepared {
    pub own: OwnHooks,
    pub wire: wire::Hooks,
}

impl Runtime {
    /// Has the hooks ready that a pod asks for. Errors name the image.
    pub(super) async fn prepare_hooks(
        self: &Arc<Self>,
        config: &SandboxConfig,
    ) -> Result<Option<Prepared>> {
        let Some(name) = config.annotations.get(IMAGE) else { return Ok(None) };
        if !self.config.pod_hooks.enabled {
            return Err(Error::Refused(format!(
                "annotation {IMAGE}: pods' own hooks are switched off on this node \
                 (pod_hooks.enabled)"
            )));
        }
        settings(config)?;
        let about = |error: Error| error.about(&format!("the pod's hooks, image {name}"));
        let image = phase("hooks-image", &[], self.hooks_image(name)).await.map_err(about)?;
        self.prepare_from(&image).await.map(Some).map_err(about)
    }

    /// As a kubelet's default policy has it: `latest` is asked for each time, any other name only
    /// where the image is not there.
    async fn hooks_image(self: &Arc<Self>, name: &str) -> Result<Arc<Image>> {
        let is_moving = Name::parse(name).is_ok_and(|name| name.is_latest());
        if let Some(image) = self.images.get(name).filter(|_| !is_moving) {
            return Ok(image);
        }
        let wanted = Pull { name: name.to_owned(), auth: None, imported: Imported::Keep };
        let image = self.images.pull(wanted)?.done().await?;
        self.image_pulled(&image);
        Ok(image)
    }

    async fn prepare_from(&self, image: &Image) -> Result<Prepared> {
        let program = entry(image)?;
        if program.form != CodeForm::Component {
            return Err(Error::Invalid(format!(
                "{} is a core module, no component: build it for wasm32-wasip2",
                program.path
            )));
        }
        let file = program.file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let wasm =
                std::fs::read(&file).map_err(Error::io(format!("reading {}", file.display())))?;
            Manifest::of(&wasm, None)
        });
        let manifest = read
            .await
            .unwrap_or_else(|_| Err(Error::Internal("reading hooks panicked".to_owned())))?
            .unwrap_or_default();
        let granted = &self.config.pod_hooks;
        settle(&manifest, granted)?;
        let code = self.images.code(&program.digest, &program.file).await?;
        Ok(Prepared {
            own: OwnHooks { image: image.id.clone(), fields: manifest.fields },
            wire: wire::Hooks {
                code: Some(wire_code(&code)),
                memory: granted.memory,
                functions: manifest.functions,
                patience_ms: granted.deadline_ms.into(),
            },
        })
    }

    /// Whoever removes images looks at the records first: now that the sandbox has one, the image
    /// stays, if it is there.
    pub(super) fn keeps_hooks(&self, sandbox: &Sandbox) -> Result<()> {
        match &sandbox.hooks {
            Some(hooks) if self.images.get(&hooks.image).is_none() => {
                Err(Error::not_found("image", hooks.image.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// The images that are pods' own hooks: nobody collects them meanwhile.
    pub fn hooks_images(&self) -> BTreeSet<String> {
        self.hooked().into_iter().map(|(image, _)| image).collect()
    }

    /// A pod whose own hooks are of an image.
    pub fn hooked_by(&self, image: &str) -> Option<String> {
        let all = self.hooked();
        all.into_iter().find(|(of, _)| of == image).map(|(_, pod)| pod)
    }

    /// Images and pods, those that are being made included.
    fn hooked(&self) -> Vec<(String, String)> {
        let records = self.records.read();
        let hooked = records.sandboxes.iter().filter_map(|pod| {
            let SandboxName { namespace, name, .. } = &pod.config.name;
            Some((pod.hooks.as_ref()?.image.clone(), format!("{namespace}/{name}")))
        });
        hooked.collect()
    }

    /// A dialogue with the hooks of a sandbox, whose questions `view` answers.
    pub(super) async fn talk_with_hooks(
        &self,
        id: &SandboxId,
        call: &Call,
        (view, limit): (&mut View, Duration),
    ) -> Result<Result<Answer, String>> {
        let gone = || Error::not_found("sandbox", id.as_str());
        let sandbox = self.records.sandbox(id).ok_or_else(gone)?;
        let shim = self.shims.get(sandbox.shim.as_ref())?;
        let json = |error| Error::Internal(format!("a hook's dialogue: {error}"));
        let call = wire::HookCall {
            sandbox_id: id.to_string(),
            call: serde_json::to_vec(call).map_err(json)?.into(),
            deadline_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        };
        let (say, said) = mpsc::channel(1);
        // The channel is new and empty.
        let _ = say.try_send(word(Word::Call(call)));
        let failed = |status| failure("calling a pod's hooks", &status);
        let talk = shim.wire().call_hooks(ReceiverStream::new(said)).await.map_err(failed)?;
        let mut heard = talk.into_inner();
        loop {
            match heard.message().await.map_err(failed)?.and_then(|word| word.word) {
                Some(Word::Ask(question)) => {
                    let reply = view.reply(&question).await?;
                    // A shim that has gone is heard of next.
                    let _ = say.send(word(Word::Reply(reply.into()))).await;
                }
                Some(Word::Answer(text)) => {
                    return serde_json::from_slice(&text).map(Ok).map_err(json);
                }
                Some(Word::Broken(why)) => return Ok(Err(why)),
                _ => return Ok(Err("gave no answer".to_owned())),
            }
        }
    }
}

fn word(word: Word) -> wire::HookWord {
    wire::HookWord { word: Some(word) }
}

/// The component: the image's entrypoint, or the one program that is there.
fn entry(image: &Image) -> Result<&ImageProgram> {
    let search = Search { working_dir: "/", path: "/usr/local/bin:/usr/bin:/bin" };
    let named = image.config.entrypoint.first().and_then(|name| image.program(name, search));
    match (named, image.programs.as_slice()) {
        (Some(program), _) | (None, [program]) => Ok(program),
        (None, []) => Err(Error::Invalid("it holds no wasm file".to_owned())),
        (None, _) => Err(Error::Invalid(
            "it holds several wasm files and no entrypoint that names one".to_owned(),
        )),
    }
}
