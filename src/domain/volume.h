/*
 * Volumes: where the files of workspaces are.  A volume is a directory of workspaces, named by a file in it; a
 * worker has one.  The first worker that takes a run of a workspace makes its volume the workspace's.  Any worker
 * performs steps that touch no file; before one that does, a run whose files are on another volume is passed on,
 * into a lane whose owner is "volume:<name>".
 *
 * Where the store is a file there is one process and one directory: its worker's volume is "", which may have every
 * run, and nothing is bound.
 */
#ifndef BATON_DOMAIN_VOLUME_H
#define BATON_DOMAIN_VOLUME_H

#include "domain/workspace.h"

/* The owner of the lanes for a volume's runs; absent for an absent one. */
struct str volume_owner(struct arena *, struct str volume);
/* A worker of `volume` takes a run of the workspace, which has none yet. */
enum err volume_bind(struct tx *, struct str workspace, struct str volume) NODISCARD;
/* The files are on another volume by now, or (absent) nowhere: with all open runs.  ERR_VALIDATION: no worker that
 * is there has it. */
enum err volume_change(struct tx *, const struct workspace *, struct str volume) NODISCARD;
/* Whether a worker that is there has it. */
enum err volume_is_served(struct tx *, struct str volume, bool *) NODISCARD;

#endif
