//! Work that several want is done once, for as long as anybody wants it: who comes later joins,
//! and the last one to leave ends it.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{Shared, WeakShared};
use tokio::sync::watch;

use crate::error::{Error, Result};

type Work<T> = Pin<Box<dyn Future<Output = Result<T, Arc<Error>>> + Send>>;

/// Work under way by its key; `P` is how far it is.
pub struct Flights<K, T, P> {
    running: Mutex<HashMap<K, Running<T, P>>>,
}

/// Not what keeps the work alive.
type Running<T, P> = (WeakShared<Work<T>>, watch::Receiver<P>);

/// A share in some work. Dropping the last one ends the work.
pub struct Flight<T, P> {
    work: Shared<Work<T>>,
    pub progress: watch::Receiver<P>,
    pub part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The work was begun for this one.
    First,
    Joined,
}

impl<K, T, P> Default for Flights<K, T, P> {
    fn default() -> Self {
        Self { running: Mutex::default() }
    }
}

impl<K: Eq + Hash, T: Clone, P: Default> Flights<K, T, P> {
    /// Joins the work of that key, or begins it.
    pub fn join<F>(&self, key: K, begin: impl FnOnce(watch::Sender<P>) -> F) -> Flight<T, P>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((work, progress)) = running.get(&key)
            && let Some(work) = work.upgrade().filter(|work| work.peek().is_none())
        {
            return Flight { work, progress: progress.clone(), part: Part::Joined };
        }
        running.retain(|_, (work, _)| work.upgrade().is_some());
        let (told, progress) = watch::channel(P::default());
        let future = begin(told);
        let work: Work<T> = Box::pin(async move { future.await.map_err(Arc::new) });
        let work = work.shared();
        if let Some(weak) = work.downgrade() {
            running.insert(key, (weak, progress.clone()));
        }
        Flight { work, progress, part: Part::First }
    }
}

impl<T: Clone, P> Flight<T, P> {
    /// Waits for the work's end.
    pub async fn land(self) -> Result<T> {
        self.work.await.map_err(|error| error.copy())
    }
}

impl<T: Clone, P: Copy> Flight<T, P> {
    /// As [`Flight::land`], telling how far it is.
    pub async fn land_telling(mut self, mut tell: impl FnMut(P)) -> Result<T> {
        let mut work = self.work;
        loop {
            tokio::select! {
                biased;
                landed = &mut work => {
                    tell(*self.progress.borrow());
                    return landed.map_err(|error| error.copy());
                }
                changed = self.progress.changed() => match changed {
                    Ok(()) => tell(*self.progress.borrow_and_update()),
                    // It is about to land.
                    Err(_) => return work.await.map_err(|error| error.copy()),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    type Test = Flights<&'static str, u32, u32>;

    #[tokio::test]
    async fn who_comes_later_joins_and_the_work_outlives_who_began_it() {
        let flights = Test::default();
        let (go, wait) = oneshot::channel::<u32>();
        let first = flights.join("a", |_| async move { Ok(wait.await.unwrap()) });
        let second = flights.join("a", |_| async { panic!("begun twice") });
        assert_eq!((first.part, second.part), (Part::First, Part::Joined));
        drop(first);
        go.send(7).unwrap();
        assert_eq!(second.land().await.unwrap(), 7);
        // What has ended is not joined any more.
        assert_eq!(flights.join("a", |_| async { Ok(8) }).land().await.unwrap(), 8);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let flights = Test::default();
        let (go, wait) = oneshot::channel::<u32>();
        drop(flights.join("a", |_| async move { Ok(wait.await.unwrap()) }));
        assert!(go.is_closed());
        let failed = flights.join("a", |_| async { Err(Error::Invalid("x".to_owned())) });
        assert_eq!(failed.land().await.unwrap_err().to_string(), "x");
    }
}
