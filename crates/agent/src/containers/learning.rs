//! The file sources' loop asks the Kubernetes API about a container, and goes on meanwhile: only
//! the first turn of that one file waits, and not beyond the deadline.

use std::sync::Arc;
use std::time::Instant;

use crate::containers::facts::ContainerFacts;
use crate::containers::kubernetes::DEADLINE;
use crate::identity::Inode;
use crate::parse::RecordParser;
use crate::reader::{Event, Reader};

impl Reader {
    /// A parser for the log of a container.
    pub(crate) fn container_parser(&self, source: usize, facts: &ContainerFacts) -> RecordParser {
        let labels = self.config.files.get(source).map(|source| source.labels.clone());
        let host = &self.config.host;
        RecordParser::for_container(host, facts, &labels.unwrap_or_default())
    }

    /// Asks what the API knows of the container that writes a file.
    pub(crate) fn ask_about(&mut self, file: usize, facts: ContainerFacts) {
        let Some(kubernetes) = self.kubernetes.clone() else { return };
        let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) else { return };
        if facts.pod.is_empty() {
            return;
        }
        tailed.learning_until = Some(Instant::now() + DEADLINE);
        let (inode, sender) = (tailed.inode, self.sender.clone());
        self.runtime.spawn(async move {
            let mut facts = facts;
            if let Some(more) = kubernetes.facts(&facts).await {
                facts.fill_from(more);
            }
            // The loop may have ended; then no one waits for the answer.
            let _ = sender.send(Event::Learned { file, inode, facts: Arc::new(facts) });
        });
    }

    /// The API's answer, if the file is still the one that was asked about.
    pub(crate) fn learned(&mut self, file: usize, inode: Inode, facts: &ContainerFacts) {
        let Some(tailed) = self.file(file).filter(|tailed| tailed.inode == inode) else { return };
        let source = tailed.source;
        let parser = self.container_parser(source, facts);
        let Some(settings) = self.config.files.get(source) else { return };
        let parser = parser.reading(settings.format, settings.patterns.clone());
        if let Some(tailed) = self.files.get_mut(file).and_then(Option::as_mut) {
            tailed.learning_until = None;
            tailed.parser = parser;
        }
        self.activate(file);
    }
}
