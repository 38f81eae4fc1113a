/*
 * The end of a workspace.  From the deleting transaction on it is to everybody as if it had never
 * been: its keys and secrets are gone with it.  What it held goes in pieces of a few milliseconds,
 * the first at once, the others with the tick; a piece is a transaction, and a restart goes on
 * where the last one ended.
 */
#ifndef BATON_DOMAIN_PURGE_H
#define BATON_DOMAIN_PURGE_H

#include "domain/workspace.h"

/* ERR_CONFLICT while a task of it has not ended or a run is open, and for the default one. */
enum err workspace_delete(struct tx *, const struct principal *, struct str id) NODISCARD;
/* A piece of what is left of the workspace that was deleted first, if there is one. */
enum err purge_piece(struct tx *) NODISCARD;
/* The workspace whose rows were gone first and whose files are not, for who removes them; or
 * ERR_EMPTY. */
enum err sweep_next(struct tx *, struct str volume, struct workspace *) NODISCARD;
enum err sweep_done(struct tx *, struct str workspace) NODISCARD;

#endif
