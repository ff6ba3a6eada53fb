import { describeError } from '@holdfast/runtime'
import type { ErrorTable } from '@holdfast/runtime'

/** Operating errors of the stores. */
export const storeErrorCodes = {
  STORE_CORRUPT: {
    cause: 'The files of the store cannot be read as a database: some are missing, cut short or damaged.',
    remedy: 'The daemon moves the store to its quarantine folder, salvages what can be read and goes on with a new '
      + 'one. Check the disk or SD card; keep the quarantined folder until the loss is understood.',
    retryable: false
  },
  STORE_LOCKED: {
    cause: 'Another process has the store open.',
    remedy: 'Stop the other process, or give this one a data directory of its own.',
    retryable: true
  },
  STORE_INACCESSIBLE: {
    cause: 'The system does not let the daemon at the files of the store: no permission, a file system that is mounted '
      + 'read-only, or too many open files. Their content is untouched.',
    remedy: 'The message carries the system error: give the files to the user that the daemon runs as, mount the disk '
      + 'writable, or raise the limit of open files (LimitNOFILE).',
    retryable: true
  },
  STORE_FAILED: {
    cause: 'The disk refused to read, write or fsync (full, or an I/O error).',
    remedy: 'The message carries the system error: free some space, or replace the disk. Nothing more is written until the '
      + 'store has been opened again, which the daemon does by itself.',
    retryable: true
  },
  STORE_CLOSED: {
    cause: 'The store was used after it had been closed.',
    remedy: 'Expected only while the process stops; otherwise report it.',
    retryable: false
  },
  OUTBOX_FULL: {
    cause: 'A lane holds as many bytes for the cloud as its `bytesMax` allows, and its policy is `reject`.',
    remedy: 'Restore the link so that the lane drains, raise `lanes.<name>.bytesMax`, or set its overflow to `drop-oldest`.',
    retryable: true
  },
  DISK_FULL: {
    cause: 'Free space is below `disk.freeFloorBytes`; new records are refused while the backlog drains.',
    remedy: 'Free some space on the file system of the data directory, or restore the link.',
    retryable: true
  }
} as const satisfies ErrorTable

export type StoreErrorCode = keyof typeof storeErrorCodes

/** True where the disk had no room left, however deep the system's error lies: the case for giving up the ballast. */
export function isDiskFull(error: unknown): boolean {
  return error instanceof Error && /ENOSPC|No space left on device|EDQUOT|quota exceeded/i.test(describeError(error))
}
