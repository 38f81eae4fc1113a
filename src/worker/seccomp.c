#include "worker/seccomp.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
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
        for (unsigned i = 0; i < LENGTH(typing_ioctls); i++)
                if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                                     SCMP_A1_32(SCMP_CMP_EQ, typing_ioctls[i])))
                        return false;
        return true;
}

/* Only these families; vsock above all, which leads to the host of a virtual machine. */
static bool add_sockets(scmp_filter_ctx filter)
{
        static const int allowed[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
        int last = 0;

        for (unsigned i = 0; i < LENGTH(allowed); i++) {
                for (int family = last; family < allowed[i]; family++)
                        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket),
                                             1, SCMP_A0_32(SCMP_CMP_EQ, (uint32_t)family)))
                                return false;
                last = allowed[i] + 1;
        }
        return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                SCMP_A0_32(SCMP_CMP_GE, (uint32_t)last)) == 0;
}

int seccomp_filter_memfd(void)
{
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int fd = -1;

        if (!filter)
                return -1;
        (void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
        if (add_calls(filter) && add_arguments(filter) && add_sockets(filter)) {
                fd = memfd_create("seccomp", MFD_CLOEXEC);
                if (fd >= 0 && seccomp_export_bpf(filter, fd)) {
                        close(fd);
                        fd = -1;
                }
        }
        seccomp_release(filter);
        return fd;
}
