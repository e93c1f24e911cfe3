# Installs packages of R into a library of its own, beside those that this machine has.
#
# Arguments: the library; a file with a line `name<TAB>version` for each package that is wanted; addresses of package
# repositories, divided by commas; a script of the app that installs more, or nothing; a file to write what is there to.

arguments <- commandArgs(trailingOnly = TRUE)
library_dir <- arguments[[1]]
repositories <- strsplit(arguments[[3]], ",", fixed = TRUE)[[1]]
names(repositories) <- c("CRAN", sprintf("R%d", seq_along(repositories)))[seq_along(repositories)]
script <- arguments[[4]]
options(repos = repositories, timeout = 300, Ncpus = 2L, warn = 1, menu.graphics = FALSE)
.libPaths(c(library_dir, .libPaths()))

say <- function(...) cat(..., "\n", sep = "")
fail <- function(...) {
  say("error: ", ...)
  quit(save = "no", status = 1)
}
there <- function() {
  found <- installed.packages(noCache = TRUE)[, c("Package", "Version"), drop = FALSE]
  found <- found[!duplicated(found[, "Package"]), , drop = FALSE]
  setNames(found[, "Version"], found[, "Package"])
}

wanted <- read.delim(arguments[[2]], header = FALSE, colClasses = "character", col.names = c("name", "version"),
                     na.strings = "", quote = "", comment.char = "")
have <- there()
known <- wanted$name %in% names(have)
for (i in which(known & !is.na(wanted$version))) {
  if (package_version(have[[wanted$name[i]]]) != package_version(wanted$version[i])) {
    say("Warning: ", wanted$name[i], " ", wanted$version[i], " is asked for; taking ", have[[wanted$name[i]]],
        ", which this server has.")
  }
}
missing <- wanted$name[!known]

# The source of a package, in the version that is wanted where the repository still has it.
fetch <- function(name, version, available, to) {
  row <- available[name, ]
  current <- sprintf("%s/%s_%s.tar.gz", row[["Repository"]], name, row[["Version"]])
  if (!is.na(version) && package_version(row[["Version"]]) != package_version(version)) {
    archived <- sprintf("%s/Archive/%s/%s_%s.tar.gz", row[["Repository"]], name, name, version)
    target <- file.path(to, basename(archived))
    got <- tryCatch(suppressWarnings(download.file(archived, target, quiet = TRUE)), error = function(e) 1L)
    if (identical(got, 0L)) return(invisible())
    unlink(target)
    say("Warning: ", name, " ", version, " is asked for; taking ", row[["Version"]], ", which the repository has.")
  }
  got <- tryCatch(download.file(current, file.path(to, basename(current)), quiet = TRUE), error = function(e) 1L)
  if (!identical(got, 0L)) fail("the package ", name, " could not be fetched from the repository")
}

if (length(missing) > 0) {
  say("This server does not have: ", paste(missing, collapse = ", "))
  available <- tryCatch(
    suppressWarnings(available.packages(repos = repositories, type = "source", filters = c("R_version", "duplicates"))),
    error = function(e) NULL
  )
  if (is.null(available) || nrow(available) == 0) {
    fail("the package repository cannot be reached, and this server does not have ", paste(missing, collapse = ", "))
  }
  unknown <- setdiff(missing, rownames(available))
  if (length(unknown) > 0) fail("the package repository has no package ", paste(unknown, collapse = ", "))
  below <- tools::package_dependencies(missing, db = available, which = c("Depends", "Imports", "LinkingTo"),
                                       recursive = TRUE)
  needed <- setdiff(union(missing, unlist(below)), names(have))
  unknown <- setdiff(needed, rownames(available))
  if (length(unknown) > 0) fail("the package repository has no package ", paste(unknown, collapse = ", "))
  # A repository of what is needed alone: R installs from it in the right order.
  contrib <- file.path(tempdir(), "src", "contrib")
  dir.create(contrib, recursive = TRUE)
  versions <- setNames(wanted$version, wanted$name)
  for (name in needed) fetch(name, if (name %in% names(versions)) versions[[name]] else NA, available, contrib)
  tools::write_PACKAGES(contrib, type = "source")
  install.packages(needed, lib = library_dir, contriburl = paste0("file://", contrib), type = "source",
                   dependencies = FALSE, INSTALL_opts = c("--no-docs", "--no-multiarch", "--no-test-load"))
  failed <- setdiff(needed, names(there()))
  if (length(failed) > 0) fail("these packages could not be installed: ", paste(failed, collapse = ", "))
  say("Installed: ", paste(needed, collapse = ", "))
}

if (nzchar(script)) {
  say("Running ", script)
  tryCatch(source(script, local = new.env()), error = function(e) fail(script, " failed: ", conditionMessage(e)))
}

have <- there()
writeLines(names(have), arguments[[5]])
