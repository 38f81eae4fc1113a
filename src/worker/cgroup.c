#include "worker/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/attr.h"

#define ROOT "/sys/fs/cgroup"

static bool put(const char *dir, const char *file, const char *value)
{
        char path[CGROUP_PATH + 64];
        size_t n = strlen(value);
        ssize_t written;
        int fd;

        snprintf(path, sizeof(path), "%s/%s", dir, file);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        written = write(fd, value, n);
        close(fd);
        return written == (ssize_t)n;
}

static bool put_int(const char *dir, const char *file, int64_t value)
{
        char text[32];

        snprintf(text, sizeof(text), "%lld", (long long)value);
        return put(dir, file, text);
}

static bool get(const char *dir, const char *file, char *text, size_t size)
{
        char path[CGROUP_PATH + 64];
        ssize_t n;
        int fd;

        snprintf(path, sizeof(path), "%s/%s", dir, file);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return false;
        n = read(fd, text, size - 1);
        close(fd);
        text[n > 0 ? n : 0] = 0;
        return n >= 0;
}

static bool has_word(const char *text, const char *word)
{
        size_t n = strlen(word);

        for (const char *at = text; (at = strstr(at, word)); at += n)
                if ((at == text || strchr(" ,", at[-1])) && (!at[n] || strchr(" ,\n", at[n])))
                        return true;
        return false;
}

static bool set_limits(const struct cgroup_parent *parent, const char *dir, int64_t memory,
                       int64_t processes, bool *memory_set, bool *processes_set)
{
        if (parent->memory && memory > 0) {
                *memory_set = put_int(dir, parent->unified ? "memory.max" : "memory.limit_in_bytes",
                                      memory);
                /* Without a bound on swap the memory would only move there. */
                if (parent->unified)
                        (void)put(dir, "memory.swap.max", "0");
                else
                        (void)put_int(dir, "memory.memsw.limit_in_bytes", memory);
        }
        if (parent->pids && processes > 0)
                *processes_set = put_int(dir, "pids.max", processes);
        return *memory_set || *processes_set;
}

/* Groups of a spawner that was killed before it could remove them. */
static void remove_stale(const char *parent)
{
        DIR *list = opendir(parent);
        struct dirent *entry;
        int pid, n;

        while (list && (entry = readdir(list)))
                if (sscanf(entry->d_name, "baton-%d-%n", &pid, &n) == 1 && kill(pid, 0) &&
                    errno == ESRCH)
                        (void)unlinkat(dirfd(list), entry->d_name, AT_REMOVEDIR);
        if (list)
                closedir(list);
}

/* Can a group be made here, and which bounds take effect? */
static void try_parent(struct cgroup_parent *parent)
{
        char dir[CGROUP_PATH + 32], text[256];
        bool memory = false, pids = false;

        if (parent->unified) {
                if (!get(parent->dir, "cgroup.subtree_control", text, sizeof(text)))
                        text[0] = 0;
                parent->memory = has_word(text, "memory");
                parent->pids = has_word(text, "pids");
        }
        snprintf(dir, sizeof(dir), "%s/baton-%d-probe", parent->dir, (int)getpid());
        if ((!parent->memory && !parent->pids) || mkdir(dir, 0755)) {
                parent->dir[0] = 0;
                return;
        }
        (void)set_limits(parent, dir, INT64_C(1) << 30, 64, &memory, &pids);
        parent->memory = memory;
        parent->pids = pids;
        remove_stale(parent->dir);
        if (rmdir(dir) || (!memory && !pids))
                parent->dir[0] = 0;
}

void cgroups_probe(struct cgroups *groups)
{
        FILE *list = fopen("/proc/self/cgroup", "re");
        struct cgroup_parent *parents = groups->parents;
        char line[CGROUP_PATH];
        unsigned n = 0;

        *groups = (struct cgroups){ 0 };
        while (list && n < LENGTH(groups->parents) && fgets(line, sizeof(line), list)) {
                char *names = strchr(line, ':');
                char *path = names ? strchr(names + 1, ':') : NULL;
                bool memory, pids;

                if (!path)
                        continue;
                *names++ = *path++ = 0;
                path[strcspn(path, "\n")] = 0;
                if (strlen(path) > CGROUP_PATH - 96)
                        continue;
                memory = !strcmp(names, "memory");
                pids = !strcmp(names, "pids");
                if (*names && !memory && !pids)
                        continue;
                if (!strcmp(path, "/"))
                        path = names + strlen(names);
                parents[n] = (struct cgroup_parent){ .memory = memory,
                                                     .pids = pids,
                                                     .unified = !*names };
                snprintf(parents[n].dir, sizeof(parents[n].dir), "%s/%s%s", ROOT,
                         *names                             ? names :
                         access(ROOT "/unified", F_OK) == 0 ? "unified" :
                                                              ".",
                         path);
                try_parent(&parents[n]);
                if (parents[n].dir[0])
                        n++;
        }
        for (; n < LENGTH(groups->parents); n++)
                parents[n].dir[0] = 0;
        if (list)
                fclose(list);
}

void cgroup_make(struct cgroups *groups, struct cgroup *group)
{
        *group = (struct cgroup){ 0 };
        groups->made++;
        for (unsigned i = 0; i < LENGTH(groups->parents); i++) {
                const struct cgroup_parent *parent = &groups->parents[i];
                char *dir = group->dirs[i];
                int n;

                if (!parent->dir[0])
                        continue;
                n = snprintf(dir, CGROUP_PATH, "%s/baton-%d-%lu", parent->dir, (int)getpid(),
                             groups->made);
                if (n < 0 || n >= CGROUP_PATH || mkdir(dir, 0755))
                        dir[0] = 0;
        }
}

void cgroup_limit(const struct cgroups *groups, struct cgroup *group, int64_t memory,
                  int64_t processes)
{
        for (unsigned i = 0; i < LENGTH(groups->parents); i++)
                if (group->dirs[i][0])
                        (void)set_limits(&groups->parents[i], group->dirs[i], memory, processes,
                                         &group->memory, &group->pids);
}

bool cgroup_enter(const struct cgroup *group)
{
        for (unsigned i = 0; i < LENGTH(group->dirs); i++)
                if (group->dirs[i][0] && !put(group->dirs[i], "cgroup.procs", "0"))
                        return false;
        return true;
}

bool cgroup_oom(const struct cgroups *groups, const struct cgroup *group)
{
        char text[512];

        for (unsigned i = 0; i < LENGTH(group->dirs); i++) {
                const char *at;

                if (!group->dirs[i][0] || !groups->parents[i].memory)
                        continue;
                if (!get(group->dirs[i],
                         groups->parents[i].unified ? "memory.events" : "memory.oom_control", text,
                         sizeof(text)))
                        continue;
                at = strstr(text, "oom_kill ");
                if (at && at[strlen("oom_kill ")] != '0')
                        return true;
        }
        return false;
}

bool cgroup_remove(struct cgroup *group)
{
        bool gone = true;

        for (unsigned i = 0; i < LENGTH(group->dirs); i++) {
                if (!group->dirs[i][0])
                        continue;
                if (rmdir(group->dirs[i]) && errno == EBUSY)
                        gone = false;
                else
                        group->dirs[i][0] = 0;
        }
        return gone;
}
