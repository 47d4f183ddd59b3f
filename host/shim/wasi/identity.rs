//! How a component asks who it is: wasmpod:container/identity, which wit/identity.wit describes.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};

use super::component::State;
use crate::model::user::User;

/// The package of what is given beside WASI.
pub const PACKAGE: &str = "wasmpod:container/";

const INTERFACE: &str = "wasmpod:container/identity@0.1.0";

#[derive(ComponentType, Lower)]
#[component(record)]
struct Current {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    name: String,
}

impl From<&User> for Current {
    fn from(user: &User) -> Self {
        let User { uid, gid, groups, name } = user.clone();
        Self { uid, gid, groups, name }
    }
}

pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let current = |store: StoreContextMut<'_, State>, ()| Ok((Current::from(store.data().user()),));
    linker.instance(INTERFACE)?.func_wrap("current", current)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wasmtime::component::Component;

    use super::*;
    use crate::shim::wasi::component::Shared;
    use crate::shim::wasi::component::testing::World;

    /// Exports a function that answers with uid, gid, the second group and the name's first byte,
    /// a digit of 100 each.
    const ASKS: &str = r#"(component
      (import "wasmpod:container/identity@0.1.0" (instance $identity
        (type $user' (record (field "uid" u32) (field "gid" u32) (field "groups" (list u32))
          (field "name" string)))
        (export "user" (type $user (eq $user')))
        (export "current" (func (result $user)))))
      (core module $memory-module
        (memory (export "memory") 1)
        (global $next (mut i32) (i32.const 64))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
          global.get $next
          (global.set $next (i32.add (global.get $next) (i32.const 32)))))
      (core instance $memory (instantiate $memory-module))
      (core func $current (canon lower (func $identity "current")
        (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
      (core module $main
        (import "host" "current" (func $current (param i32)))
        (import "host" "memory" (memory 1))
        (func $digit (param i32 i32) (result i32)
          (i32.add (i32.mul (local.get 0) (i32.const 100)) (local.get 1)))
        (func (export "ask") (result i32)
          (call $current (i32.const 0))
          (i32.load (i32.const 0))
          (call $digit (i32.load (i32.const 4)))
          (call $digit (i32.load (i32.add (i32.load (i32.const 8)) (i32.const 4))))
          (call $digit (i32.load8_u (i32.load (i32.const 16))))))
      (core instance $guest (instantiate $main
        (with "host" (instance
          (export "current" (func $current)) (export "memory" (memory $memory "memory"))))))
      (func (export "ask") (result u32) (canon lift (core func $guest "ask"))))"#;

    #[tokio::test]
    async fn a_component_asks_who_it_is() {
        let world = World::new();
        let mut context = world.context(&["guest"]);
        let user = User { uid: 5, gid: 6, groups: vec![6, 7], name: "Ann".to_owned() };
        context.user = Arc::new(user);
        let shared = Shared::open(&context).unwrap();
        let mut store =
            wasmtime::Store::new(&world.engines.mapped, State::new(context, shared).unwrap());
        store.set_epoch_deadline(u64::MAX / 2);
        let component =
            Component::new(&world.engines.mapped, wat::parse_str(ASKS).unwrap()).unwrap();
        let linker = crate::shim::wasi::p3::linker(&world.engines.mapped).unwrap();
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        let ask = instance.get_typed_func::<(), (u32,)>(&mut store, "ask").unwrap();
        assert_eq!(ask.call_async(&mut store, ()).await.unwrap(), (5_060_765,));
    }
}
