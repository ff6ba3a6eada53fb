import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { CutProxy } from '../harness/cut-proxy.ts'
import { Fleet, until } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { Kubectl, kubectlPrograms } from './kubectl-program.ts'
import { metric } from './programs.ts'

let fleet: Fleet | undefined
let proxy: CutProxy
let edge: Daemon

beforeAll(async () => {
  if (kubectlPrograms.every(({ absent }) => absent !== undefined)) return
  fleet = await Fleet.start()
  proxy = await CutProxy.open(() => Number(new URL(fleet!.cloud.endpoints.tunnel!).port))
  edge = await fleet.join('edge-1', { set: [`server=wss://127.0.0.1:${proxy.port}`, 'link.retryMax=500ms'] })
  await edge.start()
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await proxy?.[Symbol.asyncDispose]()
})

const linked = (): Promise<unknown> => until('the link is up', async () => await metric(edge, 'holdfast_edge_link_up') === 1)
const unlinked = (): Promise<unknown> => until('the link is down', async () => await metric(edge, 'holdfast_edge_link_up') === 0)

const manifest = (namespace: string): string => `
apiVersion: v1
kind: Secret
metadata: {name: key, namespace: ${namespace}}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Secret
metadata: {name: other, namespace: ${namespace}}
stringData: {password: nobody's}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: ${namespace}, labels: {app: web}}
spec:
  nodeName: edge-1
  containers:
  - name: main
    image: registry.example/web:1.0
    envFrom: [{configMapRef: {name: settings}}]
    volumeMounts: [{name: key, mountPath: /key}]
  volumes: [{name: key, secret: {secretName: key}}]
`

interface Meta { readonly metadata: { readonly name: string, readonly uid: string }, readonly data?: Readonly<Record<string, string>> }

describe.each(kubectlPrograms)('$name', ({ id, path, absent }) => {
  const namespace = `of-${id}`
  let cloud: Kubectl
  let local: Kubectl

  beforeEach(({ skip }) => {
    skip(absent !== undefined, absent)
    const cache = join(fleet!.folder, `cache-${id}`)
    cloud = new Kubectl(path, join(fleet!.cloud.dataDir, 'kubeconfig'), join(cache, 'cloud'))
    local = new Kubectl(path, join(edge.dataDir, 'local.kubeconfig'), join(cache, 'edge'))
  })

  afterEach(() => { proxy.heal() })

  const onNode = (): Promise<string[]> => local.names(['get', 'pods,configmaps,secrets', '-A'])
  const view = ['configmap/settings', 'pod/web', 'secret/key']

  it('sees the node, and what the node reports of it', async () => {
    await until('the node is ready and has reported', async () => / Ready .* v1\.32\.0-holdfast/.test(await cloud.run(['get', 'nodes'])))
    const [head = '', row = ''] = (await cloud.run(['get', 'nodes', '-o', 'wide'])).split('\n')
    const cells = new Map(head.split(/ {2,}/).map((name, i) => [name.trim(), row.split(/ {2,}/)[i]]))
    expect(cells.get('NAME')).toBe('edge-1')
    expect(cells.get('STATUS')).toBe('Ready')
    expect(cells.get('ROLES')).toBe('edge')
    expect(cells.get('VERSION')).toMatch(/^v1\.32\.0-holdfast\./)
    expect(cells.get('KERNEL-VERSION')).not.toBe('<unknown>')
    expect(await cloud.run(['wait', '--for=condition=Ready', 'node/edge-1', '--timeout=20s'])).toContain('condition met')
  })

  it('gives a Pod with a ConfigMap and a Secret to the node, which says that it is held', async () => {
    await cloud.run(['create', 'namespace', namespace])
    expect(await cloud.run(['create', 'configmap', 'settings', '-n', namespace, '--from-literal=colour=blue'])).toContain('created')
    expect(await cloud.run(['apply', '-f', '-'], manifest(namespace))).toContain('pod/web created')
    await until('the node has its view', async () => (await onNode()).join() === view.join())
    await until('the pod has the status that the node reports', async () =>
      (await cloud.run(['get', 'pods', '-n', namespace, '-o', 'yaml'])).includes('reason: NoContainerRuntime'))
    expect(await cloud.run(['get', 'pods', '-n', namespace, '-o', 'yaml'])).toContain('held on this node')
    const [, row = ''] = (await cloud.run(['get', 'pods', '-n', namespace, '-o', 'wide'])).split('\n')
    expect(row.split(/ {2,}/).slice(0, 3)).toEqual(['web', '0/1', 'NoContainerRuntime'])
    expect(await local.run(['get', 'secret', 'key', '-n', namespace, '-o', 'jsonpath={.data.password}']))
      .toBe(Buffer.from('hunter2').toString('base64'))
    expect(await local.refused(['get', 'secret', 'other', '-n', namespace])).toContain('NotFound')
  })

  it('patches three kinds, and a watch on the node sees it', async () => {
    await using watch = local.watch(['get', 'configmaps', '-n', namespace, '-w', '-o', 'jsonpath={.metadata.name}={.data.colour};'])
    await watch.shows(/settings=blue;/)
    await cloud.run(['patch', 'configmap', 'settings', '-n', namespace, '-p', '{"data":{"colour":"green"}}'])
    await cloud.run(['patch', 'secret', 'key', '-n', namespace, '--type=json', '-p', '[{"op":"add","path":"/data/b","value":"Mg=="}]'])
    await cloud.run(['patch', 'pod', 'web', '-n', namespace, '--type=merge', '-p', '{"metadata":{"labels":{"tier":"front"}}}'])
    await watch.shows(/settings=green;/)
    await until('all three are on the node', async () =>
      await local.run(['get', 'secret', 'key', '-n', namespace, '-o', 'jsonpath={.data.b}']) === 'Mg=='
      && await local.run(['get', 'pod', 'web', '-n', namespace, '-o', 'jsonpath={.metadata.labels.tier}']) === 'front')
    // Its status did not go down, and did not suffer.
    expect((await local.run(['get', 'pods', '-n', namespace])).split('\n')[1]).toContain('NoContainerRuntime')
  })

  it('shows the same on the node with the link cut, and after kill -9 and a start without a network', async () => {
    const all = ['get', 'pods,configmaps,secrets', '-A']
    const before = await local.json<object>(all)
    proxy.cut()
    await unlinked()
    expect(await onNode()).toEqual(view)
    expect(await local.json<object>(all)).toEqual(before)
    await edge.kill()
    await edge.start()
    expect(await onNode()).toEqual(view)
    expect(await local.json<object>(all)).toEqual(before)
    proxy.heal()
    await linked()
    expect(await onNode()).toEqual(view)
  })

  it('what changed while the node was away is right on it within a second of the link\'s return', async () => {
    const uidOf = async (kubectl: Kubectl): Promise<string> =>
      (await kubectl.json<Meta>(['get', 'configmap', 'settings', '-n', namespace])).metadata.uid
    const uid = await uidOf(local)
    await using watch = local.watch(['get', 'configmaps', '-n', namespace, '-w', '-o', 'jsonpath={.metadata.name}={.data.colour};'])
    await watch.shows(/settings=green;/)
    proxy.cut()
    await unlinked()
    await cloud.run(['delete', 'secret', 'key', '-n', namespace])
    await cloud.run(['delete', 'configmap', 'settings', '-n', namespace])
    await cloud.run(['create', 'configmap', 'settings', '-n', namespace, '--from-literal=colour=red'])
    expect(await onNode()).toEqual(view)
    proxy.heal()
    await linked()
    const returnedMs = performance.now()
    await watch.shows(/settings=red;/)
    const seenMs = performance.now() - returnedMs
    console.log(`a watch on the node shows the change ${Math.round(seenMs)} ms after the link's return`)
    expect(seenMs).toBeLessThan(1000)
    await until('the secret is gone from the node', async () => (await onNode()).join() === 'configmap/settings,pod/web')
    expect(await uidOf(local)).not.toBe(uid)
    expect(await uidOf(local)).toBe(await uidOf(cloud))
  })

  it('deletes the Pod, when its node has let go of it', async () => {
    await using watch = cloud.watch(['get', 'pods', '-n', namespace, '-w', '--no-headers'])
    await watch.shows(/web /)
    const [waited] = await Promise.allSettled([
      cloud.run(['wait', '--for=delete', 'pod/web', '-n', namespace, '--timeout=20s']),
      cloud.run(['delete', 'pod', 'web', '-n', namespace, '--timeout=20s'])
    ])
    // Of what is gone before it is asked for, 1.20 says that there is nothing to wait for.
    if (waited.status === 'rejected') expect(String(waited.reason)).toMatch(/NotFound|no matching resources/)
    await watch.shows(/web +0\/1 +Terminating/)
    await until('the node holds nothing', async () => (await onNode()).length === 0)
    await cloud.run(['delete', 'namespace', namespace])
  })
})

it('a node whose link dies is NotReady in time, and Ready within a second of its return', async ({ skip }) => {
  const program = kubectlPrograms.find(({ absent }) => absent === undefined)
  skip(program === undefined, 'no kubectl here')
  const cloud = new Kubectl(program!.path, join(fleet!.cloud.dataDir, 'kubeconfig'), join(fleet!.folder, 'cache-ready'))
  await using watch = cloud.watch(['get', 'nodes', '-w', '--no-headers'])
  await watch.shows(/edge-1 +Ready /)
  watch.output = ''
  proxy.cut()
  await watch.shows(/edge-1 +NotReady/, 60_000)
  watch.output = ''
  proxy.heal()
  await linked()
  const returnedMs = performance.now()
  await watch.shows(/edge-1 +Ready /)
  const readyMs = performance.now() - returnedMs
  console.log(`the node is Ready ${Math.round(readyMs)} ms after the link's return`)
  expect(readyMs).toBeLessThan(1000)
})
