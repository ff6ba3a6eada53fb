import { MemoryStore } from './memory-store.ts'
import { storeSuite } from './testing/store-suite.ts'

storeSuite('MemoryStore', async () => ({
  open: async () => new MemoryStore(),
  dispose: async () => {}
}), { endures: false, crashes: false, fails: false })
