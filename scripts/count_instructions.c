/* A plugin of qemu-user: counts guest instructions, and prints the count at each getppid() of the guest, which nothing
   else calls. Exact from run to run, as long as one thread runs and addresses are not randomised (setarch -R). */
#include <inttypes.h>
#include <qemu-plugin.h>
#include <stdio.h>

#define GETPPID 173 /* aarch64: include/uapi/asm-generic/unistd.h */

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;
static uint64_t instructions;

static void on_block(qemu_plugin_id_t id, struct qemu_plugin_tb *block)
{
    qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &instructions,
                                             qemu_plugin_tb_n_insns(block));
}

static void on_call(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                    uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    if (number == GETPPID)
        fprintf(stderr, "instructions %" PRIu64 "\n", instructions);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
