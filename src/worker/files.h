/*
 * Files of a workspace, touched only by a helper process under the workspace's uid.  Paths are
 * relative to the workspace's root and resolved beneath it by the kernel: an absolute path, "..",
 * NUL or a symbolic link that leads outside is ERR_VALIDATION naming the path.  "" is the root.
 *
 * All of them: ERR_NOT_FOUND (no such file, no workspace directory), ERR_UNAVAILABLE (spawner
 * gone).
 */
#ifndef BATON_WORKER_FILES_H
#define BATON_WORKER_FILES_H

#include "worker/spawner.h"

#define FILES_WRITE_MAX (INT64_C(64) << 20) /* bytes that one write may carry */
#define FILES_LIST_MAX  20000               /* entries that one list may return */

enum file_type { FILE_REGULAR, FILE_DIRECTORY, FILE_SYMLINK, FILE_OTHER };
extern const char *const file_type_names[]; /* file, directory, symlink, other */

struct file_entry {
        struct str name; /* one component; UTF-8 (bad bytes replaced) */
        enum file_type type;
        int64_t size; /* of a regular file, else 0 */
};

/* The first `cap` bytes of a regular file, and its size. */
enum err files_read(struct scope *, struct spawner *, struct str workspace_uuid, uint32_t uid,
                    struct str path, size_t cap, struct str *bytes, int64_t *size) NODISCARD;
/* Makes the parent directories; replaces atomically and keeps the old mode; synced to disk.
 * ERR_QUOTA_EXCEEDED when the workspace would grow past `quota` bytes. */
enum err files_write(struct scope *, struct spawner *, struct str workspace_uuid, uint32_t uid,
                     struct str path, struct str bytes, int64_t quota) NODISCARD;
/* Sorted by name. */
enum err files_list(struct scope *, struct spawner *, struct str workspace_uuid, uint32_t uid,
                    struct str path, struct file_entry **entries, size_t *n) NODISCARD;
/* With parents; fine when it is there. */
enum err files_mkdir(struct scope *, struct spawner *, struct str workspace_uuid, uint32_t uid,
                     struct str path) NODISCARD;
/* Bytes of the regular files of the workspace; how many files, directories and links there are.
 * ERR_PERMISSION_DENIED: a directory in it cannot be read by its owner. */
enum err files_usage(struct scope *, struct spawner *, struct str workspace_uuid, uint32_t uid,
                     int64_t *bytes, int64_t *count) NODISCARD;
/* Removes up to `most` entries of the workspace, for it was deleted; its empty root stays. */
enum err files_clear(struct scope *, struct spawner *, struct str workspace_uuid, uint32_t uid,
                     int64_t most, bool *left) NODISCARD;

#endif
