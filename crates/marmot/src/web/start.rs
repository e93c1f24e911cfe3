//! What the form of a new launcher asks besides the recipe: who may open its app, how that scales, its secrets.

use askama::Template;
use marmot_text::{filters, say};

use super::Web;
use super::forms::{SPARE_ROWS, Typed, given_rows};
use super::opening::{Choice, choices, typed_names};
use super::pages::TypedVariable;
use super::respond::Failed;
use super::scaling::ScalingForm;
use super::session::Visitor;
use super::view::Field;
use super::words;
use crate::model::{Project, Secret};
use crate::opening::OpenTo;
use crate::service::{Beginning, Error, Field as Of};

/// What somebody typed of it.
#[derive(Debug, Clone)]
pub(super) struct StartForm {
    open_to: OpenTo,
    users: String,
    groups: String,
    pub(super) opening_wrong: Field,
    pub(super) scaling: ScalingForm,
    secrets: Vec<TypedVariable>,
    pub(super) secrets_wrong: Field,
}

/// That part of the form.
#[derive(Debug, Template)]
#[template(path = "launcher_start.html")]
pub(super) struct StartSection {
    /// Who could open it; nobody but owners may choose.
    choices: Vec<Choice>,
    users: String,
    groups: String,
    opening_wrong: Field,
    scaling: ScalingForm,
    secrets: Vec<TypedVariable>,
    secrets_wrong: Field,
}

impl StartForm {
    /// Nothing said yet.
    pub(super) fn empty(web: &Web) -> Result<Self, Failed> {
        Self::typed(web, &Typed::default())
    }

    pub(super) fn typed(web: &Web, typed: &Typed) -> Result<Self, Failed> {
        let mut secrets = given_rows(typed, "secret_name", "secret_value");
        secrets.resize(secrets.len() + SPARE_ROWS, TypedVariable::default());
        Ok(Self {
            open_to: typed.get("open_to").parse().unwrap_or_default(),
            users: typed.get("users").trim().to_owned(),
            groups: typed.get("groups").trim().to_owned(),
            opening_wrong: Field::default(),
            scaling: ScalingForm::typed(&web.service.usual_scaling()?, typed),
            secrets,
            secrets_wrong: Field::default(),
        })
    }

    /// What it says; or the form again, with what cannot be read beside its field.
    pub(super) fn read(mut self) -> Result<(Self, Beginning), Box<Self>> {
        let scaling = match self.scaling.clone().read() {
            Ok((_, scaling)) => scaling,
            Err(form) => {
                self.scaling = *form;
                return Err(Box::new(self));
            }
        };
        if self.secrets.iter().any(|secret| secret.name.is_empty() && !secret.value.is_empty()) {
            self.secrets_wrong.wrong = Some(say("form-variable-unnamed").to_owned());
            return Err(Box::new(self));
        }
        // Browsers end lines in forms as mail does.
        let secret = |row: &TypedVariable| (row.name.clone(), Secret::new(row.value.replace("\r\n", "\n")));
        let named = self.open_to == OpenTo::Named;
        let beginning = Beginning {
            open_to: self.open_to,
            users: if named { typed_names(&self.users) } else { Vec::new() },
            groups: if named { typed_names(&self.groups) } else { Vec::new() },
            scaling,
            secrets: self.secrets.iter().filter(|row| !row.name.is_empty()).map(secret).collect(),
        };
        Ok((self, beginning))
    }

    /// Only what is said of `part`, with everything else as usual; `None` where that is no part of this form.
    pub(super) fn only(self, part: &str, usual: Self) -> Option<Self> {
        match part {
            "open_to" | "users" | "groups" => {
                Some(Self { open_to: self.open_to, users: self.users, groups: self.groups, ..usual })
            }
            "secret_name" | "secret_value" => Some(Self { secrets: self.secrets, ..usual }),
            "preset" => Some(Self { scaling: self.scaling, ..usual }),
            other => self.scaling.has(other).then_some(Self { scaling: self.scaling, ..usual }),
        }
    }

    /// Takes what the service refused, if that is about this part of the form; gives it back if it is not.
    pub(super) fn refused(&mut self, error: Error) -> Result<Option<Error>, Failed> {
        let wrong = |error: &Error| Some(words::refusal(error));
        match error.field() {
            Some(Of::SecretName | Of::Secrets) => self.secrets_wrong.wrong = wrong(&error),
            Some(Of::OpenTo) => self.opening_wrong.wrong = wrong(&error),
            Some(Of::Scaling(_)) => self.scaling = self.scaling.clone().refused(error)?,
            _ => return Ok(Some(error)),
        }
        Ok(None)
    }

    /// As an owner sees it, with something wrong.
    pub(super) fn sample(web: &Web) -> Result<StartSection, Failed> {
        let mut form = Self::empty(web)?;
        form.secrets[0] = TypedVariable { name: "PORT".to_owned(), value: String::new() };
        form.secrets_wrong.wrong = Some(say("design-variable-is-ours").to_owned());
        let choices = choices(form.open_to, crate::model::Visibility::Public);
        Ok(form.drawn(choices))
    }

    fn drawn(self, choices: Vec<Choice>) -> StartSection {
        StartSection {
            choices,
            users: self.users,
            groups: self.groups,
            opening_wrong: self.opening_wrong,
            scaling: self.scaling,
            secrets: self.secrets,
            secrets_wrong: self.secrets_wrong,
        }
    }

    /// As it is drawn.
    pub(super) async fn section(
        self,
        web: &Web,
        visitor: &Visitor,
        project: &Project,
    ) -> Result<StartSection, Failed> {
        let may_open = web.service.may_open_to(&visitor.who, project).await?;
        let choices = if may_open { choices(self.open_to, project.visibility) } else { Vec::new() };
        Ok(self.drawn(choices))
    }
}
