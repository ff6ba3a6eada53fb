import { SystemClock, silentLog } from '@holdfast/runtime'
import { levelStoreOpener } from '../level-store.ts'
import { writeSynced } from '../write-synced.ts'

// Opens the store of the folder given, reads every key, writes and compacts, as a program does that lives on it; ends without
// a close, by SIGKILL where nothing else ended it.
const folder = process.argv[2]!
const opener = levelStoreOpener({ path: `${folder}/db`, quarantineDir: `${folder}/quarantine` }, { log: silentLog, clock: new SystemClock() })
const all = { gte: Buffer.of(0), lt: Buffer.of(0xff) }
const store = await opener.open()
await store.scan({ ...all, values: false, bytesMax: 2 ** 31 })
await opener.trust()
process.stdout.write('trusted\n')
// A table that covers all others: they are sorted anew together.
await writeSynced(store, [{ type: 'put', key: Buffer.from('a'), value: Buffer.alloc(1) }, { type: 'put', key: Buffer.from('z'), value: Buffer.alloc(1) }])
await store.compact(all.gte, all.lt)
process.stdout.write('compacted\n')
process.kill(process.pid, 'SIGKILL')
