//! What a plugin's thread does: one job after the other, with the instance that is its alone.

use std::pin::Pin;

use tokio::sync::mpsc;

use super::instance::Instance;

/// What a thread does next; false when its instance is no good any more.
pub type Job = Box<dyn for<'a> FnOnce(&'a mut Instance) -> Turn<'a> + Send>;
pub type Turn<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

/// A plugin's thread waits in this.
pub fn run(work: impl Future<Output = ()>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    runtime.block_on(work);
    Ok(())
}

/// Does one job after the other, until nobody has any or the instance is no good any more.
pub async fn serve(mut instance: Instance, mut queue: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = queue.recv().await {
        if !job(&mut instance).await {
            return;
        }
    }
}
