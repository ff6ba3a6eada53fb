import { HoldfastError } from '@holdfast/runtime'
import type { Clock } from '@holdfast/runtime'
import { describe, expect, it } from 'vitest'
import { KeptLog } from '../identity/testing/identity-fixture.ts'
import { ControllersClient } from './controllers-client.ts'
import type { KubeClient, KubeList } from './kube-client.ts'
import { kubeKinds } from './kube-kinds.ts'

const place = { kind: kubeKinds.nodes, name: 'edge-1' }

class Harness {
  nowMs = 0
  opened = 0
  closed = 0
  failure: Error | undefined
  listFailure: Error | undefined
  waits: Promise<void> = Promise.resolve()
  readonly log = new KeptLog()
  readonly client = new ControllersClient({ retryMs: 1000 }, {
    clock: { monotonicMs: () => this.nowMs } as Clock,
    log: this.log,
    open: async () => {
      this.opened++
      await this.waits
      if (this.failure !== undefined) throw this.failure
      const closed = async (): Promise<void> => { this.closed++ }
      const list = async (): Promise<KubeList> => {
        if (this.listFailure !== undefined) throw this.listFailure
        return { items: [], resourceVersion: '1' }
      }
      return { get: async () => undefined, list, [Symbol.asyncDispose]: closed } as unknown as KubeClient & AsyncDisposable
    }
  })
}

describe('a client that is opened on use', () => {
  it('is opened once, by the first request', async () => {
    const harness = new Harness()
    expect(harness.opened).toBe(0)
    await Promise.all([harness.client.get(place), harness.client.get(place)])
    await harness.client.get(place)
    expect(harness.opened).toBe(1)
    expect(harness.client.failure).toBe('')
  })

  it('that cannot be opened fails requests as an API that does not answer, and is tried again in a while', async () => {
    const harness = new Harness()
    harness.failure = new HoldfastError('KUBE_CONFIG_INVALID', 'no such file')
    for (let i = 0; i < 3; i++) {
      await expect(harness.client.get(place)).rejects.toMatchObject({ code: 'KUBE_UNREACHABLE', status: 0 })
    }
    expect(harness.opened).toBe(1)
    expect(harness.client.failure).toContain('no such file')
    harness.nowMs = 1000
    await expect(harness.client.get(place)).rejects.toThrow('no such file')
    expect(harness.opened).toBe(2)
    expect(harness.log.lines).toEqual(['error no way to the Kubernetes API; it is tried again'])
    harness.nowMs = 2000
    harness.failure = undefined
    await harness.client.get(place)
    expect(harness.client.failure).toBe('')
  })

  it('says which lists fail, for as long as they do', async () => {
    const harness = new Harness()
    const { signal } = new AbortController()
    harness.listFailure = new Error('pods is forbidden')
    await expect(harness.client.list(kubeKinds.pods, {}, signal)).rejects.toThrow('forbidden')
    expect(harness.client.failure).toBe('pods is forbidden')
    harness.listFailure = undefined
    await harness.client.list(kubeKinds.nodes, {}, signal)
    expect(harness.client.failure).toBe('pods is forbidden')
    await harness.client.list(kubeKinds.pods, {}, signal)
    expect(harness.client.failure).toBe('')
  })

  it('is closed with what it opened, and asked for nothing more', async () => {
    const harness = new Harness()
    await harness.client.close()
    await expect(harness.client.get(place)).rejects.toMatchObject({ status: 0, reason: 'Closed' })
    expect([harness.opened, harness.closed]).toEqual([0, 0])

    const used = new Harness()
    await used.client.get(place)
    await used.client.close()
    await used.client.close()
    expect([used.opened, used.closed]).toEqual([1, 1])
    await expect(used.client.get(place)).rejects.toMatchObject({ reason: 'Closed' })
  })

  it('that takes for ever to open holds up neither a list that is aborted nor, at the end, who waits for it', async () => {
    const harness = new Harness()
    const opened = Promise.withResolvers<void>()
    harness.waits = opened.promise
    const stop = new AbortController()
    const listed = harness.client.list(kubeKinds.nodes, {}, stop.signal)
    stop.abort(new Error('enough'))
    await expect(listed).rejects.toThrow('enough')
    const read = expect(harness.client.get(place)).rejects.toMatchObject({ status: 0, reason: 'Closed' })
    await harness.client.close()
    await read
    opened.resolve()
    await expect.poll(() => harness.closed).toBe(1)
  })
})
