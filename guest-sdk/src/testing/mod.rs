//! A fake node for a plugin's unit tests: the host functions answer from it, and what they did is
//! read from it. There is one for each thread, so tests run side by side. A test fails where a plugin
//! uses what its macro does not ask for.
//!
//! ```standalone_crate
//! use wasmpod_guest::{CpuSet, cpu, testing};
//!
//! let pod = testing::pod("web");
//! let container = testing::container(&pod, "app").with_annotation("cpus", "2");
//! let node = testing::Node::new().cpus(8).pod(&pod).container(&container);
//! cpu::allocate(&container.id, &CpuSet::from([1, 5])).unwrap();
//! assert_eq!(node.allocations()[&container.id].to_string(), "1,5");
//! assert_eq!(cpu::shared_pool().unwrap().to_string(), "0,2-4,6-7");
//! ```

#[doc(hidden)]
pub mod asked;
pub(crate) mod backend;
mod fixtures;
mod node;

pub use fixtures::{configured, container, image, pod};
pub use node::{Event, Exited, Machine, Node};
