import { accessSync, constants } from 'node:fs'
import { join } from 'node:path'
import { missing } from './programs.ts'

const isThere = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Debian's, unpacked by install.sh. */
const debian = join(process.env['TMPDIR'] ?? '/tmp', 'holdfast-system/kubernetes-client/usr/bin/kubectl')
/** Both kubectls, and why one is not here. */
export const kubectls: readonly { readonly name: string, readonly path: string, readonly absent: string | undefined }[] = [
  { name: 'the kubectl that is installed', path: 'kubectl', absent: missing('kubectl') },
  { name: 'the kubectl of Debian', path: debian, absent: isThere(debian) ? undefined : `needs ${debian} (test/system/install.sh)` }
]
