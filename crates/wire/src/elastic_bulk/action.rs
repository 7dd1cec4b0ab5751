//! The action line of a bulk item: `{"create":{"_index":"x","_id":"1"}}`.

use crate::json_object::{self, JsonError, JsonValue, Leaves};

/// What is to be done with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Store the document, which is new.
    Create,
    /// Store the document.
    Index,
    /// Change a document: a log is not changed, so this fails.
    Update,
    /// Remove a document: a log is not changed, so this fails.
    Delete,
}

impl Action {
    /// The name as clients write and read it.
    pub fn name(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Index => "index",
            Action::Update => "update",
            Action::Delete => "delete",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Action::Create, Action::Index, Action::Update, Action::Delete]
            .into_iter()
            .find(|action| action.name() == name)
    }

    /// Whether a line with a document follows.
    pub(super) fn has_document(self) -> bool {
        self != Action::Delete
    }

    /// Whether its document is stored.
    pub(super) fn stores(self) -> bool {
        matches!(self, Action::Create | Action::Index)
    }
}

/// An action line as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) action: Action,
    pub(super) index: Option<String>,
    pub(super) id: Option<String>,
}

/// Reads an action line; the error says what is wrong with it.
pub(super) fn read(text: &str) -> Result<Line, String> {
    let mut parts = Parts::default();
    json_object::walk(text, &mut parts).map_err(|error| match error {
        JsonError::Syntax { .. } => format!("expected START_OBJECT: {error}"),
        JsonError::TooDeep => error.to_string(),
    })?;
    if let Some(name) = parts.bare {
        return Err(format!("expected START_OBJECT but found a value for [{name}]"));
    }
    let name = parts.name.ok_or("expected FIELD_NAME but found END_OBJECT")?;
    let action = Action::of(&name).ok_or_else(|| {
        format!("expected field [create], [delete], [index] or [update] but found [{name}]")
    })?;
    Ok(Line { action, index: parts.index, id: parts.id })
}

#[derive(Default)]
struct Parts {
    name: Option<String>,
    /// The first name, if it has no object for a value.
    bare: Option<String>,
    index: Option<String>,
    id: Option<String>,
}

impl Leaves for Parts {
    fn leaf(&mut self, name: &str, value: JsonValue<'_>) {
        let Some((action, parameter)) = name.split_once('.') else {
            if self.name.is_none() {
                self.bare.get_or_insert_with(|| name.to_owned());
            }
            return;
        };
        // What follows the action in its line means nothing.
        if self.name.get_or_insert_with(|| action.to_owned()) != action {
            return;
        }
        let slot = match parameter {
            "_index" => &mut self.index,
            "_id" => &mut self.id,
            _ => return,
        };
        slot.get_or_insert_with(|| value.as_text().to_owned());
    }

    fn empty_object(&mut self, name: &str) {
        if self.name.is_none() {
            let action = name.split_once('.').map_or(name, |(action, _)| action);
            self.name = Some(action.to_owned());
        }
    }
}
