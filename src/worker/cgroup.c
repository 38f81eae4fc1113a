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

/* Names of a limit: its controller, and its files in version 1 and in version 2. */
static const struct {
        const char *controller, *file[2];
        const char *hits[2], *word; /* counts what the kernel did to keep it; NULL = nothing */
} limits[CGROUP_LIMITS] = {
        [CGROUP_MEMORY] = { "memory",
                            { "memory.limit_in_bytes", "memory.max" },
                            { "memory.oom_control", "memory.events" },
                            "oom_kill " },
        [CGROUP_PROCESSES] = { "pids",
                               { "pids.max", "pids.max" },
                               { "pids.events", "pids.events" },
                               "max " },
        [CGROUP_CPUS] = { "cpu", { "cpu.cfs_quota_us", "cpu.max" }, { NULL, NULL }, NULL },
};
enum { CPU_PERIOD_US = 100000, STALE_TRIES = 20 };

static bool set_limit(const struct cgroup_parent *parent, const char *dir, enum cgroup_limit what,
                      int64_t cap)
{
        const char *file = limits[what].file[parent->unified];
        char quota[48];

        if (what == CGROUP_CPUS && parent->unified) {
                snprintf(quota, sizeof(quota), "%lld %d", (long long)cap * CPU_PERIOD_US,
                         CPU_PERIOD_US);
                return put(dir, file, quota);
        }
        if (what == CGROUP_CPUS)
                return put_int(dir, "cpu.cfs_period_us", CPU_PERIOD_US) &&
                       put_int(dir, file, cap * CPU_PERIOD_US);
        if (!put_int(dir, file, cap))
                return false;
        /* Without a bound on swap the memory would only move there. */
        if (what == CGROUP_MEMORY && parent->unified)
                (void)put(dir, "memory.swap.max", "0");
        else if (what == CGROUP_MEMORY)
                (void)put_int(dir, "memory.memsw.limit_in_bytes", cap);
        return true;
}

static void kill_members(int parent, const char *group)
{
        char path[300];
        FILE *list;
        int fd, pid;

        snprintf(path, sizeof(path), "%s/cgroup.procs", group);
        fd = openat(parent, path, O_RDONLY | O_CLOEXEC);
        list = fd < 0 ? NULL : fdopen(fd, "r");
        while (list && fscanf(list, "%d", &pid) == 1)
                if (pid > 1) /* 0: it cannot be seen from here */
                        kill(pid, SIGKILL);
        if (list)
                fclose(list);
}

/* Are groups of this number a dead spawner's?  Nobody has it, or we do, who made none yet. */
static bool is_stale(int pid)
{
        return pid == getpid() || (kill(pid, 0) && errno == ESRCH);
}

/*
 * Groups of a spawner that was killed before it could remove them, with what is left in them: a
 * bubblewrap that was killed before it told its process 1 to die with it leaves that waiting for ever.
 */
static void remove_stale(const char *parent)
{
        DIR *list = opendir(parent);
        struct dirent *entry;
        int pid, n;

        while (list && (entry = readdir(list))) {
                if (sscanf(entry->d_name, "baton-%d-%n", &pid, &n) != 1 || !is_stale(pid))
                        continue;
                for (int i = 0; i < STALE_TRIES && unlinkat(dirfd(list), entry->d_name,
                                                            AT_REMOVEDIR) && errno == EBUSY; i++) {
                        kill_members(dirfd(list), entry->d_name);
                        usleep(1000);
                }
        }
        if (list)
                closedir(list);
}

/* Can a group be made here, and which bounds take effect? */
static bool try_parent(struct cgroup_parent *parent)
{
        static const int64_t caps[CGROUP_LIMITS] = { INT64_C(1) << 30, 64, 1 };
        char dir[CGROUP_PATH + 32], text[256];
        bool any = false;

        if (parent->unified) {
                if (!get(parent->dir, "cgroup.subtree_control", text, sizeof(text)))
                        text[0] = 0;
                for (int i = 0; i < CGROUP_LIMITS; i++)
                        parent->can[i] = has_word(text, limits[i].controller);
        }
        remove_stale(parent->dir);
        snprintf(dir, sizeof(dir), "%s/baton-%d-probe", parent->dir, (int)getpid());
        if (mkdir(dir, 0755))
                return false;
        for (int i = 0; i < CGROUP_LIMITS; i++) {
                parent->can[i] = parent->can[i] && set_limit(parent, dir, i, caps[i]);
                any |= parent->can[i];
        }
        return rmdir(dir) == 0 && any;
}

/* A group of version 2 that holds processes cannot hand controllers down: then its parent may,
 * which is how a service manager that delegates puts us into a group of our own. */
static bool try_above(struct cgroup_parent *parent)
{
        char *slash = strrchr(parent->dir, '/');

        if (!parent->unified || !slash || strlen(parent->dir) <= strlen(ROOT))
                return false;
        *slash = 0;
        return try_parent(parent);
}

/* One line of /proc/self/cgroup, "9:pids:/a/b"; false = nothing of ours. */
static bool read_parent(char *line, struct cgroup_parent *parent)
{
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        const char *where = access(ROOT "/unified", F_OK) == 0 ? "/unified" : "";
        bool any = false;

        if (!path)
                return false;
        *names++ = *path++ = 0;
        path[strcspn(path, "\n")] = 0;
        if (strlen(path) > CGROUP_PATH - 96)
                return false;
        *parent = (struct cgroup_parent){ .unified = !*names };
        for (int i = 0; i < CGROUP_LIMITS; i++) {
                parent->can[i] = has_word(names, limits[i].controller);
                any |= parent->can[i];
        }
        if (!parent->unified && !any)
                return false;
        snprintf(parent->dir, sizeof(parent->dir), "%s%s%s%s", ROOT, parent->unified ? where : "/",
                 names, strcmp(path, "/") ? path : "");
        return true;
}

void cgroups_probe(struct cgroups *groups)
{
        FILE *list = fopen("/proc/self/cgroup", "re");
        char line[CGROUP_PATH];
        unsigned n = 0;

        *groups = (struct cgroups){ 0 };
        while (list && n < LENGTH(groups->parents) && fgets(line, sizeof(line), list))
                if (read_parent(line, &groups->parents[n]) &&
                    (try_parent(&groups->parents[n]) || try_above(&groups->parents[n])))
                        n++;
        for (; n < LENGTH(groups->parents); n++)
                groups->parents[n] = (struct cgroup_parent){ 0 };
        if (list)
                fclose(list);
}

const struct cgroup_parent *cgroups_parent(const struct cgroups *groups, enum cgroup_limit what)
{
        for (unsigned i = 0; i < LENGTH(groups->parents); i++)
                if (groups->parents[i].can[what])
                        return &groups->parents[i];
        return NULL;
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

void cgroup_bound(const struct cgroups *groups, struct cgroup *group,
                  const int64_t caps[CGROUP_LIMITS])
{
        for (unsigned i = 0; i < LENGTH(groups->parents); i++)
                for (int what = 0; what < CGROUP_LIMITS; what++)
                        if (group->dirs[i][0] && groups->parents[i].can[what] && caps[what] > 0 &&
                            set_limit(&groups->parents[i], group->dirs[i], what, caps[what]))
                                group->bounds[what] = true;
}

bool cgroup_enter(const struct cgroup *group)
{
        for (unsigned i = 0; i < LENGTH(group->dirs); i++)
                if (group->dirs[i][0] && !put(group->dirs[i], "cgroup.procs", "0"))
                        return false;
        return true;
}

bool cgroup_hit(const struct cgroups *groups, const struct cgroup *group, enum cgroup_limit what)
{
        char text[512];

        for (unsigned i = 0; i < LENGTH(group->dirs); i++) {
                const struct cgroup_parent *parent = &groups->parents[i];
                const char *file = limits[what].hits[parent->unified], *at;

                if (!group->dirs[i][0] || !parent->can[what] || !file ||
                    !get(group->dirs[i], file, text, sizeof(text)))
                        continue;
                at = strstr(text, limits[what].word);
                if (at && at[strlen(limits[what].word)] != '0')
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
