//! Apps and instances of any type, and what they do wrong kept to themselves.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bowline_link::DownReason;

use super::{App, AppError, AppMessage, Handled, Instance, Port};

/// A call under way.
pub(crate) type Call<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// [`App`] without its type.
pub(crate) trait AnyApp: Send + Sync {
    fn instance(&self, port: Port) -> Box<dyn AnyInstance>;
    fn ahead(&self, device: &str) -> Vec<u8>;
}

impl<A: App> AnyApp for A {
    fn instance(&self, port: Port) -> Box<dyn AnyInstance> {
        Box::new(App::instance(self, port))
    }

    fn ahead(&self, device: &str) -> Vec<u8> {
        App::ahead(self, device)
    }
}

/// [`Instance`] without its type. Nothing of it runs before the calls are polled.
pub(crate) trait AnyInstance: Send {
    fn start(&mut self) -> Call<'_, Result<(), AppError>>;
    fn pause(&mut self, reason: DownReason) -> Call<'_, ()>;
    fn handle<'a>(&'a mut self, message: &'a AppMessage) -> Call<'a, Result<Handled, AppError>>;
    fn stop(&mut self) -> Call<'_, ()>;
}

impl<I: Instance> AnyInstance for I {
    fn start(&mut self) -> Call<'_, Result<(), AppError>> {
        Box::pin(async move { Instance::start(self).await })
    }

    fn pause(&mut self, reason: DownReason) -> Call<'_, ()> {
        Box::pin(async move { Instance::pause(self, reason).await })
    }

    fn handle<'a>(&'a mut self, message: &'a AppMessage) -> Call<'a, Result<Handled, AppError>> {
        Box::pin(async move { Instance::handle(self, message).await })
    }

    fn stop(&mut self) -> Call<'_, ()> {
        Box::pin(async move { Instance::stop(self).await })
    }
}

/// What a call did instead of returning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lapse {
    Panic(String),
    Timeout(Duration),
}

/// Waits for `call`, for at most `limit`. A panic ends here.
pub(crate) async fn contained<T>(limit: Duration, mut call: Call<'_, T>) -> Result<T, Lapse> {
    let caught = std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context)));
        match polled {
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(Lapse::Panic(said(&*panic)))),
        }
    });
    let output = tokio::time::timeout(limit, caught).await.unwrap_or(Err(Lapse::Timeout(limit)));
    // What is left of it may panic, too.
    match caught_in(|| drop(call)) {
        Ok(()) => output,
        Err(lapse) => output.and(Err(lapse)),
    }
}

/// Calls `f`. A panic ends here.
pub(crate) fn caught_in<T>(f: impl FnOnce() -> T) -> Result<T, Lapse> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| Lapse::Panic(said(&*panic)))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}
