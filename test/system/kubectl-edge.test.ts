import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { apply, batchOf, openTable, sentObject } from '../../packages/edgecore/src/objects/testing/object-harness.ts'
import { LevelStore } from '../../packages/store/src/index.ts'
import { Fleet } from '../harness/daemons.ts'
import type { Daemon } from '../harness/daemons.ts'
import { kubectlPrograms } from './kubectl-program.ts'
import { check, run } from './programs.ts'

let fleet: Fleet | undefined
let edge: Daemon
let wrongToken: string

/** What the cluster would have sent before the link was cut. */
async function fill(path: string): Promise<void> {
  const store = await LevelStore.open({ path })
  {
    await using harness = await openTable(store)
    const { down } = harness.table
    await apply(down, batchOf('serviceaccounts', { 'default/default': sentObject('serviceaccounts', 'default/default') }))
    await apply(down, batchOf('secrets', {
      'default/password': sentObject('secrets', 'default/password', { type: 'Opaque', data: { word: 'c2VzYW1l' } })
    }))
    await apply(down, batchOf('configmaps', {
      'default/settings': sentObject('configmaps', 'default/settings', { data: { colour: 'blue' } }, { labels: { app: 'web' } }),
      'tools/hammer': sentObject('configmaps', 'tools/hammer', { data: { a: '1', b: '2' } })
    }))
    await apply(down, batchOf('services', {
      'default/web': sentObject('services', 'default/web', {
        spec: { type: 'ClusterIP', clusterIP: 'None', selector: { app: 'web' }, ports: [{ port: 80, protocol: 'TCP', targetPort: 80 }] }
      })
    }))
    await apply(down, batchOf('pods', {
      'default/web': sentObject('pods', 'default/web', {
        spec: { nodeName: 'edge-1', containers: [{ name: 'web', image: 'registry.example/web:1.0' }], restartPolicy: 'Always' }
      }, { labels: { app: 'web' } })
    }))
    await apply(down, batchOf('nodes', {
      'edge-1': sentObject('nodes', 'edge-1', { spec: {} }, { labels: { 'node-role.kubernetes.io/edge': '' } })
    }))
  }
  await store.close()
}

beforeAll(async () => {
  if (kubectlPrograms.every(({ absent }) => absent !== undefined)) return
  fleet = await Fleet.start()
  edge = await fleet.join('edge-1')
  await fleet.cloud.kill()
  await fill(join(edge.dataDir, 'db'))
  await edge.start()
  wrongToken = join(fleet.folder, 'wrong-token.kubeconfig')
  const config = JSON.parse(await readFile(join(edge.dataDir, 'local.kubeconfig'), 'utf8')) as { users: { user: object }[] }
  config.users[0]!.user = { token: 'x'.repeat(43) }
  await writeFile(wrongToken, JSON.stringify(config))
})

afterAll(async () => { await fleet?.[Symbol.asyncDispose]() })

describe.each(kubectlPrograms)('$name, on a node without a network', ({ path, absent }) => {
  const local = (): string => join(edge.dataDir, 'local.kubeconfig')
  const kubectl = (args: readonly string[]): Promise<string> =>
    check(path, ['--kubeconfig', local(), '--cache-dir', join(fleet!.folder, 'kube-cache'), ...args])
  const refused = async (args: readonly string[], config = local()): Promise<string> => {
    const { code, stderr } = await run(path, ['--kubeconfig', config, '--cache-dir', join(fleet!.folder, 'kube-cache'), ...args])
    expect(code).not.toBe(0)
    return stderr
  }
  const names = async (args: readonly string[]): Promise<string[]> => (await kubectl([...args, '-o', 'name'])).trim().split('\n')

  beforeEach(({ skip }) => { skip(absent !== undefined, absent) })

  it('shows what the cluster wants for this node, and nothing else', async () => {
    expect(await names(['get', 'pods,configmaps,secrets,services,serviceaccounts', '-A'])).toEqual([
      'pod/web', 'configmap/settings', 'configmap/hammer', 'secret/password', 'service/web', 'serviceaccount/default'
    ])
    expect(await names(['get', 'namespaces'])).toEqual(['namespace/default', 'namespace/tools'])
    expect(await names(['get', 'configmaps', '-A', '-l', 'app=web'])).toEqual(['configmap/settings'])
    expect(await names(['get', 'pods', '-A', '--field-selector', 'spec.nodeName=edge-1'])).toEqual(['pod/web'])
    expect(await refused(['get', 'deployments'])).toMatch(/the server doesn't have a resource type|could not find the requested resource/)
  })

  it('says of a pod that it is held, and why', async () => {
    const [head = '', row = ''] = (await kubectl(['get', 'pods', '-o', 'wide'])).split('\n')
    expect(head.split(/ {2,}/).slice(0, 3)).toEqual(['NAME', 'READY', 'STATUS'])
    expect(row.split(/ {2,}/).slice(0, 3)).toEqual(['web', '0/1', 'NoContainerRuntime'])
    const pod = JSON.parse(await kubectl(['get', 'pod', 'web', '-o', 'json'])) as { status: { message: string } }
    expect(pod.status.message).toBe('held on this node; no container runtime is configured')
    expect(await kubectl(['get', 'pod', 'web', '-o', 'yaml'])).toContain('image: registry.example/web:1.0')
    expect(await kubectl(['describe', 'configmap', 'settings'])).toContain('blue')
    expect(await kubectl(['describe', 'pod', 'web'])).toContain('NoContainerRuntime')
  })

  it('shows this machine as the node', async () => {
    const [head = '', row = ''] = (await kubectl(['get', 'nodes', '-o', 'wide'])).split('\n')
    const cells = new Map(head.split(/ {2,}/).map((name, i) => [name, row.split(/ {2,}/)[i]]))
    expect(cells.get('STATUS')).toBe('Ready')
    expect(cells.get('ROLES')).toBe('edge')
    expect(cells.get('VERSION')).toMatch(/^v1\.32\.0-holdfast\./)
    expect(cells.get('KERNEL-VERSION')).toBe((await check('uname', ['-r'])).trim())
  })

  it('shows Secrets to who has the token', async () => {
    expect(await kubectl(['get', 'secret', 'password', '-o', 'jsonpath={.data.word}'])).toBe('c2VzYW1l')
    expect(await refused(['get', 'secrets'], wrongToken)).toMatch(/Unauthorized|logged in/)
  })

  it('changes nothing, and says where to', async () => {
    const sentence = 'change it in the cluster'
    expect(await refused(['create', 'configmap', 'mine', '--from-literal=a=1'])).toContain(sentence)
    expect(await refused(['delete', 'pod', 'web', '--wait=false'])).toContain(sentence)
    expect(await refused(['patch', 'configmap', 'settings', '--type=merge', '-p', '{"data":{"colour":"red"}}'])).toContain(sentence)
    expect(await refused(['label', 'node', 'edge-1', 'a=b'])).toContain(sentence)
  })

  it('shows the same after kill -9 and a start without a network', async () => {
    const all = ['get', 'pods,configmaps,secrets,services,serviceaccounts', '-A', '-o', 'json']
    const before = await kubectl(all)
    await edge.kill()
    await edge.start()
    expect(JSON.parse(await kubectl(all))).toEqual(JSON.parse(before))
  })
})
