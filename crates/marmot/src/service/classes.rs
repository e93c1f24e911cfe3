//! Who may use which resource class: some are for the members of groups alone.
//!
//! It is asked of whoever names a class for a launcher. What a launcher has it keeps, whoever changes the rest of it,
//! activates it, or leaves the group afterwards: the app belongs to its project, not to one person.

use marmot_core::name::Namespace;
use marmot_core::said;

use super::Service;
use super::error::Field;
use super::error::{Error, Result};
use super::permission::Identity;
use crate::db::{Connection, groups};
use crate::model::{ResourceClass, Role};

impl Service {
    /// The resource classes that `who` may name for a launcher, and the one that a launcher has already.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn classes_for(&self, who: &Identity, before: Option<i64>) -> Result<Vec<ResourceClass>> {
        let roles = roles(&mut *self.db().read().await?, who).await?;
        let mine = |class: &&ResourceClass| is_for(class, who, &roles) || Some(class.id) == before;
        Ok(self.resource_classes().iter().filter(mine).cloned().collect())
    }

    /// The class with this id, the usual one without an id. `before`: what the launcher has already.
    pub(super) async fn checked_class(
        &self,
        db: &mut Connection,
        who: &Identity,
        id: Option<i64>,
        before: Option<i64>,
    ) -> Result<i64> {
        let classes = self.resource_classes();
        // One that the operator took away stays named where it is named.
        if id.is_some() && id == before {
            return Ok(id.unwrap_or_default());
        }
        let roles = roles(db, who).await?;
        let mut open = classes.iter().filter(|class| is_for(class, who, &roles)).collect::<Vec<_>>();
        let Some(id) = id else {
            open.sort_by_key(|class| !class.default);
            return open.first().map(|class| class.id).ok_or_else(|| {
                Error::invalid(said!(
                    "no-class",
                    "there is no resource class that you may use: ask an administrator for one"
                ))
                .about(Field::ResourceClass)
            });
        };
        if open.iter().any(|class| class.id == id) {
            return Ok(id);
        }
        let known: Vec<_> = open.iter().map(|class| format!("{} ({})", class.id, class.name)).collect();
        let known = known.join(", ");
        Err(Error::invalid(match classes.iter().any(|class| class.id == id) {
            true => said!(
                "class-is-for-groups",
                "the resource class {id} is for members of certain groups: choose one of {known}",
                id = id.to_string(),
                known = known
            ),
            false => said!(
                "no-such-class",
                "there is no resource class {id}: choose one of {known}",
                id = id.to_string(),
                known = known
            ),
        })
        .about(Field::ResourceClass))
    }
}

/// The groups that `who` is a member of.
async fn roles(db: &mut Connection, who: &Identity) -> Result<Vec<(Namespace, Role)>> {
    match who.id() {
        Some(user) => Ok(groups::roles_of(db, user).await?),
        None => Ok(Vec::new()),
    }
}

fn is_for(class: &ResourceClass, who: &Identity, roles: &[(Namespace, Role)]) -> bool {
    let is_mine = |of: &crate::model::ClassGroup| {
        roles.iter().any(|(path, role)| *path == of.path && *role >= of.least)
    };
    class.groups.is_empty() || who.is_admin() || class.groups.iter().any(is_mine)
}
