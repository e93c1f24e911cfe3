//! The roles that people have in something, by themselves: the same table for projects and for groups.

/// Makes the functions about the roles in one kind of thing: `$table` holds them, and `$column` the thing's id.
macro_rules! members_of {
    ($table:literal, $column:literal, $id:ty) => {
        /// The members, by name: those with a role of their own.
        pub async fn members(db: &mut Connection, of: $id) -> Result<Vec<Member>> {
            sqlx::query(concat!(
                "SELECT u.id, u.username, m.role FROM ",
                $table,
                " m JOIN users u ON u.id = m.user_id WHERE m.",
                $column,
                " = $1 ORDER BY u.username"
            ))
            .bind(of.to_string())
            .fetch_all(db)
            .await?
            .iter()
            .map(|row| {
                let (user, username) = (row.parsed("id")?, row.parsed("username")?);
                Ok(Member { user, username, role: row.parsed("role")? })
            })
            .collect()
        }

        /// Gives a person a role, in the place of the one before.
        pub async fn set_role(db: &mut Connection, of: $id, user: UserId, role: Role) -> Result<()> {
            sqlx::query(concat!(
                "INSERT INTO ",
                $table,
                " (",
                $column,
                ", user_id, role) VALUES ($1, $2, $3) ON CONFLICT (",
                $column,
                ", user_id) DO UPDATE SET role = excluded.role"
            ))
            .bind(of.to_string())
            .bind(user.to_string())
            .bind(role.as_str())
            .execute(db)
            .await?;
            Ok(())
        }

        /// Takes a person's role away.
        pub async fn remove_member(db: &mut Connection, of: $id, user: UserId) -> Result<()> {
            sqlx::query(concat!("DELETE FROM ", $table, " WHERE ", $column, " = $1 AND user_id = $2"))
                .bind(of.to_string())
                .bind(user.to_string())
                .execute(db)
                .await?;
            Ok(())
        }
    };
}

pub(super) use members_of;
