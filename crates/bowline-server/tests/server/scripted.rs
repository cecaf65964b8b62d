//! Apps that tell what happens to them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_server::{App, AppError, AppMessage, DownReason, Handled, Instance, Port};
use tokio::sync::mpsc;

use crate::harness::soon;

type Handling = Pin<Box<dyn Future<Output = Result<Handled, AppError>> + Send>>;

/// Tells every call to its [`Log`], and handles messages as it is told.
#[derive(Clone)]
pub(crate) struct Scripted {
    told: mpsc::UnboundedSender<String>,
    handle: Arc<dyn Fn(AppMessage) -> Handling + Send + Sync>,
    made: Arc<AtomicU64>,
    ahead: Vec<u8>,
    starts: Arc<dyn Fn(Port) -> Handling + Send + Sync>,
}

/// What a [`Scripted`] app tells: its instances are numbered as they are made.
pub(crate) struct Log(mpsc::UnboundedReceiver<String>);

impl Log {
    #[track_caller]
    pub(crate) fn tells<'a>(&'a mut self, expected: &'a str) -> impl Future<Output = ()> + 'a {
        let caller = std::panic::Location::caller();
        let told = soon(self.0.recv());
        async move { assert_eq!(told.await.as_deref(), Some(expected), "{caller}") }
    }

    /// The next call, whatever it is.
    pub(crate) async fn next(&mut self) -> String {
        soon(self.0.recv()).await.expect("the app is there")
    }

    /// Everything told until the app is gone.
    pub(crate) async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(told) = soon(self.0.recv()).await {
            rest.push(told);
        }
        rest
    }

    pub(crate) fn tells_nothing(&mut self) {
        assert_eq!(self.0.try_recv().ok(), None);
    }
}

/// An app that handles messages so.
pub(crate) fn scripted<F>(handle: impl Fn(AppMessage) -> F + Send + Sync + 'static) -> (Scripted, Log)
where
    F: Future<Output = Result<Handled, AppError>> + Send + 'static,
{
    let (told, log) = mpsc::unbounded_channel();
    let app = Scripted {
        told,
        handle: Arc::new(move |message| Box::pin(handle(message))),
        made: Arc::default(),
        ahead: Vec::new(),
        starts: Arc::new(|_| Box::pin(async { Ok(Handled::done()) })),
    };
    (app, Log(log))
}

impl Scripted {
    /// It wants these instances ahead.
    pub(crate) fn ahead(self, instances: &[u8]) -> Self {
        Scripted { ahead: instances.to_vec(), ..self }
    }

    /// Its instances start so.
    pub(crate) fn starts<F>(self, start: impl Fn(Port) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Handled, AppError>> + Send + 'static,
    {
        Scripted { starts: Arc::new(move |port| Box::pin(start(port))), ..self }
    }

    /// An instance for all devices.
    pub(crate) fn global(self) -> ScriptedInstance {
        ScriptedInstance { number: 0, port: None, app: self }
    }
}

impl App for Scripted {
    type Instance = ScriptedInstance;

    fn instance(&self, port: Port) -> ScriptedInstance {
        let number = self.made.fetch_add(1, Ordering::Relaxed) + 1;
        ScriptedInstance { number, port: Some(port), app: self.clone() }
    }

    fn ahead(&self, _: &str) -> Vec<u8> {
        self.ahead.clone()
    }
}

pub(crate) struct ScriptedInstance {
    number: u64,
    port: Option<Port>,
    app: Scripted,
}

impl ScriptedInstance {
    fn tells(&self, what: &str) {
        // Nobody may listen any more.
        let _ = self.app.told.send(format!("{} {what}", self.number));
    }
}

impl Instance for ScriptedInstance {
    async fn start(&mut self) -> Result<(), AppError> {
        self.tells("starts");
        match self.port.clone() {
            Some(port) => (self.app.starts)(port).await.map(drop),
            None => Ok(()),
        }
    }

    async fn pause(&mut self, reason: DownReason) {
        self.tells(&format!("pauses: {reason}"));
    }

    async fn handle(&mut self, message: &AppMessage) -> Result<Handled, AppError> {
        let again = if message.attempt() > 1 { format!(" (attempt {})", message.attempt()) } else { String::new() };
        self.tells(&format!("handles {}{again}", message.text().unwrap_or("bytes")));
        (self.app.handle)(message.clone()).await
    }

    async fn stop(&mut self) {
        self.tells("stops");
    }
}
