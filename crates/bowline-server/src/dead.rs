//! Dead letters, and what is to become of them.

use std::sync::Arc;

use bowline_link::{RetryError, Storage};
use bowline_store::{Change, CommitError, DeadId, DeadLetterEntry, ReadError, Store};
use tokio::sync::OwnedMutexGuard;

use crate::Server;

/// Why a dead letter cannot be had, retried or dropped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeadError {
    /// The server keeps everything in memory.
    #[error("this server has no store, and only a store keeps dead letters for another try")]
    NoStore,
    /// There is none with this number.
    #[error("there is no dead letter {id}: it was retried or dropped, or its device was forgotten, or it never was")]
    Unknown {
        /// The number.
        id: DeadId,
    },
    /// It stays in the box.
    #[error("dead letter {id} of {device:?} stays in the box: {error}")]
    Retry {
        /// The number.
        id: DeadId,
        /// Whose it is.
        device: Arc<str>,
        /// Why.
        error: RetryError,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] CommitError),
}

impl Server {
    /// Messages that nobody could handle, of one device or of all, oldest first.
    ///
    /// # Errors
    /// Without a store, or if it cannot be read.
    pub async fn dead_letters(&self, device: Option<&str>) -> Result<Vec<DeadLetterEntry>, DeadError> {
        let device = device.map(str::to_owned);
        read(self.storage()?, move |store| store.dead_letters(device.as_deref())).await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// If there is none with this number, without a store, or if that cannot be read.
    pub async fn dead_letter(&self, id: DeadId) -> Result<DeadLetterEntry, DeadError> {
        find(self.storage()?, id).await
    }

    /// Puts a dead letter back to the end of the queue it came from: a received one goes to the
    /// application again, one that was to be sent goes to the device. Happens once, whoever else asks
    /// for the same, and also if the future is dropped after its first poll. Resolves when it is
    /// durable, which takes as long as the store fails. Returns the letter.
    ///
    /// # Errors
    /// If there is none with this number, its queue is full, or it cannot be sent; without a store, or
    /// if that cannot be read.
    pub async fn retry_dead(&self, id: DeadId) -> Result<DeadLetterEntry, DeadError> {
        let (server, storage) = (self.clone(), self.storage()?);
        self.with_dead_letters(async move {
            let entry = find(storage, id).await?;
            let retried = match server.get(&entry.device) {
                Some(device) => device.endpoint.retry_dead(&entry).await,
                None => Err(RetryError::Closed),
            };
            match retried {
                Ok(()) => Ok(entry),
                Err(error) => Err(DeadError::Retry { id, device: entry.device, error }),
            }
        })
        .await
    }

    /// Drops a dead letter for good. Returns it.
    ///
    /// # Errors
    /// If there is none with this number; without a store, or if that fails.
    pub async fn drop_dead(&self, id: DeadId) -> Result<DeadLetterEntry, DeadError> {
        let storage = self.storage()?;
        self.with_dead_letters(async move {
            let entry = find(storage.clone(), id).await?;
            match storage.store().commit(Change::DropDead { id }).await {
                Ok(_) => Ok(entry),
                Err(CommitError::UnknownDeadLetter { id }) => Err(DeadError::Unknown { id }),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    /// Does `work` to its end while nobody else takes letters out of the box: between reading a letter
    /// and taking it out, nobody else may read it.
    async fn with_dead_letters<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let mutex = Arc::clone(&self.shared().dead);
        let task = async move {
            let _alone: OwnedMutexGuard<()> = mutex.lock_owned().await;
            work.await
        };
        tokio::spawn(task).await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn storage(&self) -> Result<Storage, DeadError> {
        self.shared().storage.clone().ok_or(DeadError::NoStore)
    }
}

async fn find(storage: Storage, id: DeadId) -> Result<DeadLetterEntry, DeadError> {
    read(storage, move |store| store.dead_letter(id)).await?.ok_or(DeadError::Unknown { id })
}

/// Reading the disk blocks.
async fn read<T: Send + 'static>(
    storage: Storage,
    read: impl FnOnce(&Store) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, DeadError> {
    let task = tokio::task::spawn_blocking(move || read(storage.store()));
    Ok(task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?)
}
