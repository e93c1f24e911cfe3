//! People in the database.

use jiff::Timestamp;
use marmot_core::id::UserId;
use marmot_core::name::Namespace;
use marmot_text::Language;
use sqlx::any::AnyRow;

use super::row::{Columns, total};
use super::{Connection, Found, Result};
use crate::model::{Page, Secret, User};

pub(super) fn read(row: &AnyRow) -> Result<User> {
    Ok(User {
        id: row.parsed("id")?,
        username: row.parsed("username")?,
        is_admin: row.flag("is_admin")?,
        email: row.maybe_text("email")?,
        first_name: row.maybe_text("first_name")?,
        last_name: row.maybe_text("last_name")?,
        created_at: row.time("created_at")?,
        disabled_at: row.maybe_time("disabled_at")?,
        // One that a later version had and this one has not is as none.
        language: row.maybe_text("language")?.and_then(|tag| tag.parse().ok()),
    })
}

/// Adds a person, and takes the namespace of that name.
pub async fn insert(db: &mut Connection, user: &User, password_hash: Option<&Secret>) -> Result<()> {
    super::namespaces::take(db, &user.username).await?;
    sqlx::query(
        "INSERT INTO users (id, username, password_hash, is_admin, email, first_name, last_name, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(user.id.to_string())
    .bind(user.username.as_str())
    .bind(password_hash.map(Secret::reveal))
    .bind(i64::from(user.is_admin))
    .bind(user.email.as_deref())
    .bind(user.first_name.as_deref())
    .bind(user.last_name.as_deref())
    .bind(user.created_at.as_millisecond())
    .execute(db)
    .await?;
    Ok(())
}

/// The person with this id.
pub async fn get(db: &mut Connection, id: UserId) -> Result<Option<User>> {
    let row = sqlx::query("SELECT * FROM users WHERE id = $1 AND deleted_at IS NULL")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The person with this name, and the hash of the password, if one is set.
pub async fn by_name(db: &mut Connection, name: &Namespace) -> Result<Option<(User, Option<Secret>)>> {
    let row = sqlx::query("SELECT * FROM users WHERE username = $1 AND deleted_at IS NULL")
        .bind(name.as_str())
        .fetch_optional(db)
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some((read(&row)?, row.maybe_text("password_hash")?.map(Secret::new))))
}

/// Everybody, by name, without those who are gone.
pub async fn all(db: &mut Connection) -> Result<Vec<User>> {
    sqlx::query("SELECT * FROM users WHERE deleted_at IS NULL ORDER BY username")
        .fetch_all(db)
        .await?
        .iter()
        .map(read)
        .collect()
}

/// Sets the hash of a person's password and ends all of that person's sessions.
pub async fn set_password(db: &mut Connection, id: UserId, hash: &Secret) -> Result<()> {
    sqlx::query("UPDATE users SET password_hash = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(hash.reveal())
        .execute(&mut *db)
        .await?;
    sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(id.to_string()).execute(db).await?;
    Ok(())
}

/// Says which language a person reads the pages in.
pub async fn set_language(db: &mut Connection, id: UserId, language: Option<Language>) -> Result<()> {
    sqlx::query("UPDATE users SET language = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(language.map(Language::tag))
        .execute(db)
        .await?;
    Ok(())
}

/// Keeps a person out from now on (`at`), or lets them in again.
pub async fn set_disabled(db: &mut Connection, id: UserId, at: Option<Timestamp>) -> Result<()> {
    sqlx::query("UPDATE users SET disabled_at = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(at.map(Timestamp::as_millisecond))
        .execute(db)
        .await?;
    Ok(())
}

/// Writes what others may change of a person over what was there.
pub async fn update(db: &mut Connection, user: &User) -> Result<()> {
    sqlx::query("UPDATE users SET is_admin = $2, email = $3, first_name = $4, last_name = $5 WHERE id = $1")
        .bind(user.id.to_string())
        .bind(i64::from(user.is_admin))
        .bind(user.email.as_deref())
        .bind(user.first_name.as_deref())
        .bind(user.last_name.as_deref())
        .execute(db)
        .await?;
    Ok(())
}

/// Ends all that lets a person in: sessions, tokens, links.
pub async fn shut_out(db: &mut Connection, id: UserId) -> Result<()> {
    for sql in [
        "DELETE FROM sessions WHERE user_id = $1",
        "DELETE FROM tokens WHERE user_id = $1",
        "DELETE FROM links WHERE user_id = $1",
    ] {
        sqlx::query(sql).bind(id.to_string()).execute(&mut *db).await?;
    }
    Ok(())
}

/// Removes what is known of a person. The row stays under another name, for what refers to it; the name is free again,
/// unless there are projects in its namespace.
pub async fn delete(db: &mut Connection, user: &User, now: Timestamp) -> Result<()> {
    shut_out(db, user.id).await?;
    for sql in [
        "DELETE FROM members WHERE user_id = $1",
        "DELETE FROM group_members WHERE user_id = $1",
        "DELETE FROM identities WHERE user_id = $1",
    ] {
        sqlx::query(sql).bind(user.id.to_string()).execute(&mut *db).await?;
    }
    sqlx::query(
        "UPDATE users SET username = $2, password_hash = NULL, is_admin = 0, email = NULL, first_name = NULL, \
         last_name = NULL, disabled_at = $3, deleted_at = $3 WHERE id = $1",
    )
    .bind(user.id.to_string())
    .bind(format!("gone-{}", user.id.to_string().to_lowercase()))
    .bind(now.as_millisecond())
    .execute(&mut *db)
    .await?;
    super::namespaces::give_back(db, &user.username).await
}

/// How many people run the installation and can sign in.
pub async fn administrators(db: &mut Connection) -> Result<u64> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM users WHERE is_admin = 1 AND disabled_at IS NULL");
    total(&row.fetch_one(db).await?)
}

/// Whether there is anybody, or ever was.
pub async fn any(db: &mut Connection) -> Result<bool> {
    Ok(total(&sqlx::query("SELECT COUNT(*) AS total FROM users").fetch_one(db).await?)? > 0)
}

/// A part of everybody, by name.
pub async fn list(db: &mut Connection, page: Page) -> Result<Found<User>> {
    let count = sqlx::query("SELECT COUNT(*) AS total FROM users WHERE deleted_at IS NULL");
    let total = total(&count.fetch_one(&mut *db).await?)?;
    let rows =
        sqlx::query("SELECT * FROM users WHERE deleted_at IS NULL ORDER BY username LIMIT $1 OFFSET $2");
    let rows = rows.bind(i64::from(page.per_page)).bind(page.offset()).fetch_all(db).await?;
    Ok((rows.iter().map(read).collect::<Result<_>>()?, total))
}

/// Whether a person has a password.
pub async fn has_password(db: &mut Connection, id: UserId) -> Result<bool> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM users WHERE id = $1 AND password_hash IS NOT NULL");
    Ok(total(&row.bind(id.to_string()).fetch_one(db).await?)? > 0)
}
