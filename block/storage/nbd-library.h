/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libnbd, loaded when the first NBD export is opened.
 *
 * It comes with GnuTLS, libxml2 and ICU, which would triple the time that every
 * command takes to start, allocate before main(), and lie in the address space
 * beside the images of strangers; most commands never need it.
 */
#ifndef PLATTER_BLOCK_STORAGE_NBD_LIBRARY_H
#define PLATTER_BLOCK_STORAGE_NBD_LIBRARY_H

#include <libnbd.h>

struct error;

/* The functions in use; each is a member below, without its "nbd_". */
#define NBD_LIBRARY_FUNCTIONS(X)     \
	X(create)                    \
	X(close)                     \
	X(get_error)                 \
	X(get_errno)                 \
	X(set_export_name)           \
	X(set_tls)                   \
	X(set_tls_certificates)      \
	X(set_tls_verify_peer)       \
	X(set_tls_username)          \
	X(set_tls_psk_file)          \
	X(add_meta_context)          \
	X(is_read_only)              \
	X(can_flush)                 \
	X(can_trim)                  \
	X(can_zero)                  \
	X(can_fast_zero)             \
	X(can_multi_conn)            \
	X(can_meta_context)          \
	X(get_size)                  \
	X(get_block_size)            \
	X(aio_connect_unix)          \
	X(aio_connect_vsock)         \
	X(aio_connect_tcp)           \
	X(aio_connect_socket)        \
	X(aio_pread_structured)      \
	X(aio_pwrite)                \
	X(aio_zero)                  \
	X(aio_trim)                  \
	X(aio_flush)                 \
	X(aio_block_status)          \
	X(aio_disconnect)            \
	X(aio_get_fd)                \
	X(aio_get_direction)         \
	X(aio_notify_read)           \
	X(aio_notify_write)          \
	X(aio_is_negotiating)        \
	X(connection_state)          \
	X(aio_is_ready)              \
	X(aio_is_dead)               \
	X(aio_is_closed)             \
	X(set_opt_mode)              \
	X(aio_opt_list)              \
	X(aio_opt_info)              \
	X(aio_opt_list_meta_context) \
	X(aio_opt_abort)             \
	X(can_fua)                   \
	X(can_df)                    \
	X(can_cache)                 \
	X(is_rotational)

struct nbd_library {
#define NBD_LIBRARY_MEMBER(name) __typeof__(&nbd_##name) name;
	NBD_LIBRARY_FUNCTIONS(NBD_LIBRARY_MEMBER)
#undef NBD_LIBRARY_MEMBER
	/* Of libnbd 1.22; NULL: it is older. */
	int (*set_tls_hostname)(struct nbd_handle *h, const char *hostname);
};

/* Any thread; the same answer every time, good until the program ends. */
const struct nbd_library *nbd_library_get(struct error *err);

#endif
