// Run by persistence.test.ts through `node --test`: the suite that aedes-persistence exports, over our store.
import { createRequire } from 'node:module'
import { test } from 'node:test'
import { SystemClock } from '@holdfast/runtime'
import { Committer, MemoryStore } from '@holdfast/store'
import { DurablePersistence } from '../broker/persistence.ts'
import { persistenceOptions } from './broker-harness.ts'

const abstractSuite = createRequire(import.meta.url)('aedes-persistence/abstract.js') as (options: {
  readonly test: typeof test
  readonly persistence: () => Promise<DurablePersistence>
  readonly testAsync: true
}) => void

abstractSuite({
  test,
  testAsync: true,
  persistence: () => {
    const store = new MemoryStore()
    const clock = new SystemClock()
    const committer = new Committer({}, { store, clock, onFailure: () => {} })
    return DurablePersistence.open(persistenceOptions, { store, committer, clock, uptimeMs: () => 0 })
  }
})
