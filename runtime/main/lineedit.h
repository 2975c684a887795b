/* lineedit.h -- lines from whoever sits before the interpreter.
** Terminal  edited by libedit (else readline), loaded when the first line is read, so that scripts do not pay for it. Without
**           either, or when stdin or stdout is no terminal, plain lines; then what was not typed at a terminal is echoed.
** History   $XDG_STATE_HOME/mp/history, else ~/.local/state/mp/history: a line an entry, `\n` and `\\` escaped. Appended at once, so
**           that sessions do not overwrite each other's and a kill loses nothing; cut to the newest thousand when it has grown to two.
**           A folder or file that cannot be made or written is silently done without.
** Memory    the line is malloc'ed and the caller's.
** SIGINT    at a terminal gives up the line (MPI_LINE_CANCELLED), else ends the program.
** Fork      a child should not read lines while its parent does.
*/
#ifndef MPI_LINEEDIT_H
#define MPI_LINEEDIT_H

#include <stddef.h>

enum { MPI_LINE_OK, MPI_LINE_EOF, MPI_LINE_CANCELLED };

/* The line without its end in *line, *length. Only MPI_LINE_OK sets them. */
int mpi_line_read (const char *prompt, char **line, size_t *length);

/* Before this process is confined: asks now what can be asked no more then. Lines are plain from here on. */
void mpi_line_confine (void);

/* Adds what was entered, which may be several lines, to the history, if there is one. */
void mpi_line_remember (const char *text);

#endif
