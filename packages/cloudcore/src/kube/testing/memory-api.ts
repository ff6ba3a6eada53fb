import { EmbeddedKubeApi } from '@holdfast/kube-api'
import { SystemClock, SystemRandom, silentLog } from '@holdfast/runtime'
import { Committer, MemoryStore } from '@holdfast/store'
import type { InProcessApi } from '../in-process-transport.ts'

const user = { name: 'cloudcore', groups: ['system:authenticated'] }

/** An embedded API whose objects are in memory, and cloudcore's way into it. */
export interface MemoryApi extends AsyncDisposable {
  readonly api: EmbeddedKubeApi
  readonly access: { readonly kind: 'in-process', readonly api: InProcessApi }
}

export async function openMemoryApi({ historyEventsMax = 1000 }: { readonly historyEventsMax?: number } = {}): Promise<MemoryApi> {
  const [clock, random] = [new SystemClock(), new SystemRandom()]
  const store = new MemoryStore()
  const committer = new Committer({}, { store, clock, onFailure: error => { throw error } })
  const api = await EmbeddedKubeApi.open({
    server: {
      name: 'kube-api', host: '127.0.0.1', port: 0, tokens: [],
      version: { major: '1', minor: '32', gitVersion: 'v1.32.0', gitCommit: '', buildDate: '', platform: '' }
    },
    objects: { historyEventsMax }
  }, { store, committer, clock, random, log: silentLog })
  const { server } = api
  return {
    api,
    access: { kind: 'in-process', api: { url: server.url, answer: exchange => server.answer(exchange, user) } },
    async [Symbol.asyncDispose]() {
      await api.close()
      await committer.close()
      await store.close()
    }
  }
}
