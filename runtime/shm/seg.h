/* seg.h -- a segment: the sealed memfd that holds one shared object, mapped.
** Layout   file page 0 starts with the header (64 bytes); the object's words follow. With MPI_SEG_LOCKPAGE a *private* page is
**          mapped between file page 0 and the rest: lock words at MPI_SEG_WORD0 / MPI_SEG_WORD1 of page 0 have their robust-list
**          entries there (base/robust.h). Everything past page 0 is reached by mpi_seg_at().
** Units    bytes; sizes are rounded up to pages. The file is sparse: pages exist once written.
** Memory   the mapping and the descriptor belong to the struct; fini gives both back.
** Sharing  whoever has the descriptor can write everything in it. Sealed against shrinking, growing and new seals, so no access raises
**          SIGBUS. A peer may still zero pages (punch); readers check what they read.
** Fork     the child has the same mapping and descriptor; the private page is copied.
** Errors   MP_ENOMEM, MP_ESYS; attach: MP_ECORRUPT for anything that is not a segment of the expected type.
** Death    the kernel frees everything with the last process.
*/
#ifndef MPI_SEG_H
#define MPI_SEG_H

#include <stddef.h>
#include <sys/types.h>

#include "base/atomics.h"
#include "mp.h"

#define MPI_SEG_MAGIC 0x31535047504d5f5fULL
#define MPI_SEG_LAYOUT 1
#define MPI_SEG_LOCKPAGE 1u

#define MPI_PAGE 4096u /* the layout's page; the machine's must be this or the constructor refuses */
#define MPI_SEG_WORD0 4064u
#define MPI_SEG_WORD1 4080u

struct mpi_seghdr {
  uint64_t magic;
  uint16_t layout;
  uint16_t type;
  uint32_t flags;
  uint64_t size; /* of the file */
  uint64_t reserved[5];
};
_Static_assert(sizeof(struct mpi_seghdr) == 64, "the object's words start at 64");

typedef struct {
  char *base;     /* file page 0, NULL: none */
  size_t size;    /* of the file, trusted (private) */
  uint32_t flags; /* trusted */
  int fd;
  uint64_t ino; /* identity, with dev */
  uint64_t dev;
} mpi_seg;

#define MPI_SEG_NONE {NULL, 0, 0, -1, 0, 0}

/* Objects are sparse, and mapped as large as they may ever become. Under a limit of address space (ulimit -v) that much is too much: then
** a new one of no given size should not be larger than this, a sixteenth of the limit. Without a limit: SIZE_MAX. */
size_t mpi_seg_share (void);

int mpi_seg_create (mpi_seg *s, int type, size_t size, uint32_t flags);

/* Maps a segment that arrived; takes ownership of fd on success only. */
int mpi_seg_attach (mpi_seg *s, int fd, int type, uint32_t flags);
int mpi_seg_type (int fd); /* the type that the header claims, or negative */

void mpi_seg_fini (mpi_seg *s);

/* Address of file offset `off` (beyond page 0 the private page is skipped). An object that crosses the end of page 0 does not exist. */
static inline void *mpi_seg_at (const mpi_seg *s, size_t off) {
  return s->base + off + (off >= MPI_PAGE && (s->flags & MPI_SEG_LOCKPAGE) ? MPI_PAGE : 0);
}

static inline mpi_a32 *mpi_seg_word (const mpi_seg *s, unsigned off) {
  return (mpi_a32 *)(void *)(s->base + off);
}

/* May a claim that `size` bytes lie in the segment be true? Looks how much of the file exists: who claims to have written so much must have. */
int mpi_seg_holds (const mpi_seg *s, uint64_t size);

/* Gives the pages wholly inside [off, off + length) back to the system; they read as zero. Never fails visibly. */
void mpi_seg_punch (const mpi_seg *s, size_t off, size_t length);

/* Is the descriptor still the segment's? A host may have closed all that it does not know, and its number may be a file of the host's now. */
int mpi_seg_is_open (const mpi_seg *s);

#endif
