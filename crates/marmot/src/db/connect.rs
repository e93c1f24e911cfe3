//! Opens the database, refuses what is no database of ours, and brings its schema up to date.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor as _, SqlSafeStr as _, Transaction};

use super::Result;
use super::reserve::Reserve;

/// The first bytes of every SQLite file.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// What is written as `%…` in the path of a database's address.
const IN_A_PATH: &percent_encoding::AsciiSet =
    &percent_encoding::NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// Every change of the schema, in order. One that was released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "initial", include_str!("../../migrations/0001_initial.sql")),
    (2, "scaling", include_str!("../../migrations/0002_scaling.sql")),
    (3, "replicas", include_str!("../../migrations/0003_replicas.sql")),
    (4, "secrets", include_str!("../../migrations/0004_secrets.sql")),
    (5, "opening", include_str!("../../migrations/0005_opening.sql")),
    (6, "people", include_str!("../../migrations/0006_people.sql")),
    (8, "containers", include_str!("../../migrations/0008_containers.sql")),
    (9, "limits", include_str!("../../migrations/0009_limits.sql")),
    (10, "previews", include_str!("../../migrations/0010_previews.sql")),
    (12, "usage", include_str!("../../migrations/0012_usage.sql")),
    (13, "build_starts", include_str!("../../migrations/0013_build_starts.sql")),
    (14, "answers", include_str!("../../migrations/0014_answers.sql")),
    (18, "language", include_str!("../../migrations/0018_language.sql")),
    (19, "traffic", include_str!("../../migrations/0019_traffic.sql")),
    (20, "said", include_str!("../../migrations/0020_said.sql")),
];

/// The database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file cannot be made or read.
    #[error("cannot use `{}` for the database", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("`{}` is not a SQLite database; it was left as it is", path.display())]
    NotADatabase {
        /// Which file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("the database `{}` is damaged ({finding}); it was left as it is: restore a copy of it", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        finding: String,
    },
    /// The database was made by another program, or by a later version of this one.
    #[error("the database is not one that this version of Marmot can use: {why}; it was left as it is")]
    Foreign {
        /// In what way.
        why: String,
    },
    /// `database_url` names a kind of database that is not known.
    #[error("`database_url` must begin with `sqlite:` or `postgres:`")]
    UnknownKind,
    /// The database does not answer.
    #[error("cannot open the database")]
    Unreachable(#[source] sqlx::Error),
    /// The schema cannot be brought up to date.
    #[error("cannot bring the database's schema up to date")]
    Schema(#[source] MigrateError),
}

/// The database.
#[derive(Debug, Clone)]
pub struct Db {
    pool: AnyPool,
    /// How a transaction that will write begins.
    begin: &'static str,
    /// Room on this machine's disk, where the database is a file of ours.
    reserve: Option<Arc<Reserve>>,
}

impl Db {
    /// Opens the database that `url` names; without one, the SQLite file `marmot.db` in `data_dir`, made if it is not there.
    ///
    /// # Errors
    /// When the database cannot be reached, is damaged, or is not one of ours. Nothing is changed then.
    pub async fn open(url: Option<&str>, data_dir: &Path) -> Result<Self, OpenError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        match url {
            None => Self::open_sqlite(&data_dir.join("marmot.db")).await,
            Some(url) => match url.split_once(':') {
                Some(("sqlite", path)) => Self::open_sqlite(Path::new(path.trim_start_matches("//"))).await,
                Some(("postgres" | "postgresql", _)) => Self::open_postgres(url).await,
                _ => Err(OpenError::UnknownKind),
            },
        }
    }

    async fn open_sqlite(path: &Path) -> Result<Self, OpenError> {
        let new = check_file(path)?;
        // Percent-encoded, so that no character of the path ends it.
        let encoded: String =
            percent_encoding::percent_encode(path.as_os_str().as_encoded_bytes(), IN_A_PATH).collect();
        let url = format!("sqlite://{encoded}?mode=rwc");
        if !new {
            check_sqlite(&url, path).await?;
        }
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(10))
            // A connection to a file does not age, and the journal goes with the last of them: its blocks with it.
            .idle_timeout(None)
            .max_lifetime(None)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // Another process (`marmot admin`) may hold the write lock for a moment. NORMAL would lose the
                    // last acknowledged writes in a power cut: FULL keeps them, and we write seldom.
                    // What is sorted must not need room on another disk.
                    let settings = "PRAGMA busy_timeout = 10000; PRAGMA foreign_keys = ON; \
                                    PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY";
                    connection.execute(settings).await?;
                    Ok(())
                })
            })
            .connect(&url)
            .await
            .map_err(|error| damaged_or_unreachable(path, error))?;
        let db = Self { pool, begin: "BEGIN IMMEDIATE", reserve: Some(Arc::new(Reserve::of(path))) };
        // Readers do not wait for the writer. The mode stays in the file.
        db.pool
            .execute("PRAGMA journal_mode = WAL")
            .await
            .map_err(|error| damaged_or_unreachable(path, error))?;
        db.migrate().await?;
        Ok(db)
    }

    async fn open_postgres(url: &str) -> Result<Self, OpenError> {
        let pool = AnyPoolOptions::new()
            .max_connections(8)
            .acquire_timeout(Duration::from_secs(10))
            .connect(url)
            .await
            .map_err(OpenError::Unreachable)?;
        let db = Self { pool, begin: "BEGIN", reserve: None };
        db.migrate().await?;
        Ok(db)
    }

    async fn migrate(&self) -> Result<(), OpenError> {
        let migrations = MIGRATIONS.iter().map(|&(version, name, sql)| {
            Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
        });
        Migrator::with_migrations(migrations.collect()).run(&self.pool).await.map_err(|error| match error {
            MigrateError::VersionMissing(version) => OpenError::Foreign {
                why: format!("its schema has step {version}, which only a later version knows"),
            },
            MigrateError::VersionMismatch(version) => OpenError::Foreign {
                why: format!("step {version} of its schema is not the one of this program"),
            },
            other => OpenError::Schema(other),
        })
    }

    /// A connection to look something up with.
    ///
    /// # Errors
    /// When none is free for 10 s.
    pub async fn read(&self) -> Result<PoolConnection<Any>> {
        Ok(self.pool.acquire().await?)
    }

    /// A transaction to change something in. What is not committed is undone.
    ///
    /// # Errors
    /// When the database is locked or gone.
    pub async fn write(&self) -> Result<Transaction<'static, Any>> {
        // IMMEDIATE: a transaction that reads first and then wants to write would fail in SQLite if another wrote
        // meanwhile, without waiting.
        Ok(self.pool.begin_with(self.begin).await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Sees to it that the database can write a good deal on, whoever fills the disk. To be called time and again: a
    /// journal that was made anew has no room yet.
    ///
    /// # Errors
    /// When the disk has no room to keep, or its file system cannot keep any.
    pub async fn keep_room(&self) -> std::io::Result<()> {
        let Some(reserve) = self.reserve.clone() else { return Ok(()) };
        tokio::task::spawn_blocking(move || reserve.take()).await.map_err(std::io::Error::other)?
    }

    /// Lets go of the database, once what is under way has ended.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Refuses a damaged file and one of another program before anything is written. On a connection of its own, since a
/// pool would try again and again.
async fn check_sqlite(url: &str, path: &Path) -> Result<(), OpenError> {
    let failed = |error| damaged_or_unreachable(path, error);
    let mut connection = AnyConnection::connect(url).await.map_err(failed)?;
    let finding: String =
        sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await.map_err(failed)?;
    if finding != "ok" {
        return Err(OpenError::Damaged { path: path.to_owned(), finding: finding.replace('\n', " ") });
    }
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'")
        .fetch_all(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    let has = |table: &str| tables.iter().any(|name| name == table);
    if tables.is_empty() || (has("_sqlx_migrations") && has("launchers")) {
        return Ok(());
    }
    Err(OpenError::Foreign { why: format!("`{}` holds the tables of another program", path.display()) })
}

/// Whether the file has yet to be made; refuses a file that is something else.
fn check_file(path: &Path) -> Result<bool, OpenError> {
    use std::io::Read as _;
    let file_error = |source| OpenError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(file_error)?;
    }
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(file_error(error)),
    };
    let mut start = Vec::new();
    file.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut start).map_err(file_error)?;
    match start.as_slice() {
        [] => Ok(true),
        SQLITE_MAGIC => Ok(false),
        _ => Err(OpenError::NotADatabase { path: path.to_owned() }),
    }
}

/// SQLite says that a file is damaged in the middle of some query.
fn damaged_or_unreachable(path: &Path, error: sqlx::Error) -> OpenError {
    // 11 is SQLITE_CORRUPT, 26 is SQLITE_NOTADB; extended codes carry them in the low byte.
    let code = error.as_database_error().and_then(|refusal| refusal.code()?.parse::<i64>().ok());
    match code.map(|code| code & 0xff) {
        Some(11 | 26) => OpenError::Damaged { path: path.to_owned(), finding: error.to_string() },
        _ => OpenError::Unreachable(error),
    }
}
