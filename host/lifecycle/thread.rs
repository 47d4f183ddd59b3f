//! What a plugin's thread does: one job after the other, with the instance that is its alone.
//!
//! Jobs are announced by a pipe: Linux then wakes the thread on the CPU of whoever waits for the
//! job's answer, where a futex would wake another, idle CPU first.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::mpsc;

use rustix::io::ioctl_fionbio;
use tokio::runtime::Runtime;

use super::instance::Instance;

/// What a thread does next; false when its instance is no good any more.
pub type Job = Box<dyn for<'a> FnOnce(&'a mut Instance) -> Turn<'a> + Send>;
pub type Turn<'a> = Pin<Box<dyn Future<Output = bool> + 'a>>;

/// Where jobs are put.
#[derive(Debug)]
pub struct Jobs {
    queue: mpsc::Sender<Job>,
    bell: PipeWriter,
}

/// Where they are taken from.
pub struct Queue {
    jobs: mpsc::Receiver<Job>,
    bell: PipeReader,
}

/// Jobs that nobody has taken when either end goes are dropped.
pub fn queue() -> io::Result<(Jobs, Queue)> {
    let (heard, bell) = io::pipe()?;
    // A full pipe wakes its reader without another byte.
    ioctl_fionbio(bell.as_fd(), true)?;
    let (queue, jobs) = mpsc::channel();
    Ok((Jobs { queue, bell }, Queue { jobs, bell: heard }))
}

impl Jobs {
    /// False: the thread has ended.
    pub fn put(&self, job: Job) -> bool {
        let is_put = self.queue.send(job).is_ok();
        // An error is a full pipe, or a thread that has ended since.
        let _ = (&self.bell).write(&[0]);
        is_put
    }
}

/// For a plugin's thread to wait in.
pub fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_time().build()
}

/// Does one job after the other, until nobody has any or the instance is no good any more.
pub fn serve(runtime: &Runtime, mut instance: Instance, mut queue: Queue) {
    let mut rung = [0; 64];
    loop {
        match queue.bell.read(&mut rung) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) | Err(_) => return,
        }
        while let Ok(job) = queue.jobs.try_recv() {
            if !runtime.block_on(job(&mut instance)) {
                return;
            }
        }
    }
}
