#include "worker/seccomp.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/attr.h"

/* By name, so that a system call which an older libseccomp does not know is skipped. */
static const char *const denied[] = {
        "mount",
        "umount2",
        "pivot_root",
        "move_mount",
        "open_tree",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "chroot",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "kcmp",
        "process_madvise",
        "pidfd_getfd",
        "keyctl",
        "add_key",
        "request_key",
        "bpf",
        "userfaultfd",
        "perf_event_open",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "unshare",
        "setns",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "reboot",
        "swapon",
        "swapoff",
        "acct",
        "quotactl",
        "quotactl_fd",
        "syslog",
        "iopl",
        "ioperm",
        "modify_ldt",
        "open_by_handle_at",
        "name_to_handle_at",
        "clock_settime",
        "clock_settime64",
        "settimeofday",
        "adjtimex",
        "clock_adjtime",
        "clock_adjtime64",
        "move_pages",
        "migrate_pages",
        "mbind",
        "fanotify_init",
        "lookup_dcookie",
        "vhangup",
        "nfsservctl",
        "uselib",
};

/* Newer than libseccomp 2.5.4; new numbers are the same on every architecture. */
enum { STATMOUNT = 457, LISTMOUNT, LSM_GET_SELF_ATTR, LSM_SET_SELF_ATTR, LSM_LIST_MODULES, MSEAL };
enum { OPEN_TREE_ATTR = 467 };
static const int denied_numbers[] = { STATMOUNT,         LISTMOUNT, LSM_GET_SELF_ATTR,
                                      LSM_SET_SELF_ATTR, MSEAL,     LSM_LIST_MODULES,
                                      OPEN_TREE_ATTR };

static const uint64_t namespaces[] = { CLONE_NEWNS,  CLONE_NEWUTS, CLONE_NEWIPC,   CLONE_NEWUSER,
                                       CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWCGROUP };

static const uint64_t typing_ioctls[] = { TIOCSTI, TIOCLINUX };

/* The clone flags are its first argument, but its second on s390. */
#ifdef __s390__
enum { CLONE_FLAGS = 1 };
#else
enum { CLONE_FLAGS = 0 };
#endif

static bool add_calls(scmp_filter_ctx filter)
{
        for (unsigned i = 0; i < LENGTH(denied); i++) {
                int number = seccomp_syscall_resolve_name(denied[i]);
                int rc;

                if (number == __NR_SCMP_ERROR)
                        continue;
                rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
                if (rc && rc != -EDOM) /* not of this architecture */
                        return false;
        }
        for (unsigned i = 0; i < LENGTH(denied_numbers); i++)
                if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), denied_numbers[i], 0))
                        return false;
        return true;
}

static bool add_arguments(scmp_filter_ctx filter)
{
        for (unsigned i = 0; i < LENGTH(namespaces); i++)
                if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                     SCMP_CMP(CLONE_FLAGS, SCMP_CMP_MASKED_EQ, namespaces[i],
                                              namespaces[i])))
                        return false;
        /* Its flags lie behind a pointer, which a filter cannot see; libc falls back to clone. */
        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0))
                return false;
        /* The kernel reads 32 bits of it: what a caller puts above them must not hide a match. */
        for (unsigned i = 0; i < LENGTH(typing_ioctls); i++)
                if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                     SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, typing_ioctls[i])))
                        return false;
        return true;
}

/* In the order of their numbers; a kind of sandbox allows those from its first one on.  Never vsock
 * above all, which leads to the host of a virtual machine. */
static const int families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
static const unsigned first_family[] = { [SECCOMP_SOCKETS_OWN] = 0,
                                         [SECCOMP_SOCKETS_IP] = 1,
                                         [SECCOMP_SOCKETS_NONE] = LENGTH(families) };

static bool add_sockets(scmp_filter_ctx filter, enum seccomp_sockets sockets)
{
        int last = 0;

        for (unsigned i = first_family[sockets]; i < LENGTH(families); i++) {
                for (int family = last; family < families[i]; family++)
                        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket),
                                             1, SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)family)))
                                return false;
                last = families[i] + 1;
        }
        /* This one takes what has a bit above the 32 as well. */
        return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                SCMP_A0_32(SCMP_CMP_GE, (uint32_t)last)) == 0;
}

/*
 * What only namespaces keep apart: names of shared memory, semaphores and queues, and the limits and
 * priorities of the same user's processes, where 0 is the caller itself.
 */
static bool add_unshared(scmp_filter_ctx filter)
{
        static const int calls[] = { SCMP_SYS(ioprio_set),
                                     SCMP_SYS(shmget), SCMP_SYS(semget), SCMP_SYS(msgget),
                                     SCMP_SYS(shmat),  SCMP_SYS(semop),  SCMP_SYS(semtimedop),
                                     SCMP_SYS(msgsnd), SCMP_SYS(msgrcv), SCMP_SYS(mq_open),
                                     SCMP_SYS(shmctl), SCMP_SYS(semctl), SCMP_SYS(msgctl),
                                     SCMP_SYS(mq_unlink) };

        static const struct {
                int call;
                unsigned argument;
        } zero[] = { { SCMP_SYS(prlimit64), 0 },         { SCMP_SYS(setpriority), 0 },
                     { SCMP_SYS(setpriority), 1 },       { SCMP_SYS(sched_setaffinity), 0 },
                     { SCMP_SYS(sched_setscheduler), 0 }, { SCMP_SYS(sched_setparam), 0 },
                     { SCMP_SYS(sched_setattr), 0 } };

        for (unsigned i = 0; i < LENGTH(calls); i++)
                if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0))
                        return false;
        for (unsigned i = 0; i < LENGTH(zero); i++)
                if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), zero[i].call, 1,
                                     SCMP_CMP(zero[i].argument, SCMP_CMP_NE, 0)))
                        return false;
        return true;
}

int seccomp_filter_memfd(enum seccomp_sockets sockets)
{
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int fd = -1;

        if (!filter)
                return -1;
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        /* Calls by the numbers of another architecture would pass unseen: they kill. */
        if (!seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) &&
            add_calls(filter) && add_arguments(filter) && add_sockets(filter, sockets) &&
            (sockets != SECCOMP_SOCKETS_NONE || add_unshared(filter))) {
                fd = memfd_create("seccomp", MFD_CLOEXEC);
                if (fd >= 0 && seccomp_export_bpf(filter, fd)) {
                        close(fd);
                        fd = -1;
                }
        }
        seccomp_release(filter);
        return fd;
}

bool seccomp_apply(int filter)
{
        struct sock_filter code[BPF_MAXINSNS];
        struct sock_fprog program = { .filter = code };
        ssize_t n = pread(filter, code, sizeof(code), 0);

        program.len = (unsigned short)(n > 0 ? n / (ssize_t)sizeof(*code) : 0);
        return program.len && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}
