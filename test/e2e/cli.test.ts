import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { until } from '../harness/daemons.ts'
import { Holdfast } from '../harness/holdfast-process.ts'
import { KubeHttp } from '../harness/kube-http.ts'
import { lastingPort } from '../harness/ports.ts'

async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'holdfast-cli-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

const alive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const ctrlC = /Ctrl-C stops both/
const processes = (up: Holdfast): number[] => [...up.output.matchAll(/log, process (\d+)/g)].map(match => Number(match[1]))

describe('holdfast up', () => {
  it('brings up a system that can be tried as it says, goes on with it later, and leaves nothing running', async () => {
    await using folder = await temporaryFolder()
    const dataDir = join(folder.path, 'a data folder')
    {
      await using up = new Holdfast('up', '--free-ports', '--data-dir', dataDir)
      await up.shows(ctrlC)
      const cloud = await up.shows(/records --node edge-1 --cloud (\S+) --follow/)
      const device = await up.shows(/curl -d '[^']+' (\S+)/)
      const kubeconfig = await up.shows(/kubectl --kubeconfig '([^']+)' get nodes -o wide/)
      using cluster = await KubeHttp.open(kubeconfig)
      await until('the node is in the Kubernetes API', async () => (await cluster.send('GET', '/api/v1/nodes/edge-1')).status === 200)
      const { spec } = JSON.parse(await up.shows(/kubectl .* run hello --image=hello --overrides='([^']+)'/)) as { readonly spec: object }
      const namespace = '/api/v1/namespaces/default'
      await cluster.send('POST', `${namespace}/configmaps`, { metadata: { name: 'settings' }, data: { colour: 'blue' } })
      const pod = { metadata: { name: 'hello' }, spec: { ...spec, containers: [{ name: 'hello', image: 'hello' }] } }
      expect(await cluster.send('POST', `${namespace}/pods`, pod)).toMatchObject({ status: 201 })
      using local = await KubeHttp.open(await up.shows(/kubectl --kubeconfig '([^']+)' get pods,configmaps,secrets -A/))
      await until('the Pod and what it uses are on the node', async () =>
        (await local.send('GET', `${namespace}/pods/hello`)).status === 200
        && (await local.send('GET', `${namespace}/configmaps/settings`)).status === 200)
      await using follow = new Holdfast('records', '--node', 'edge-1', '--cloud', cloud, '--follow')
      for (const celsius of [81, 82]) {
        const answer = await fetch(device, { method: 'POST', body: `{"celsius":${celsius}}` })
        expect(answer.status).toBe(200)
      }
      await follow.shows(/ home\/kettle +\{"celsius":81\}\n.* home\/kettle +\{"celsius":82\}\n/)
      expect(await follow.ended('SIGINT')).toBe(0)

      const lamp = JSON.parse(await up.shows(/echo '([^']+)' \| kubectl .* create -f -/)) as object
      expect(await cluster.send('POST', '/apis/devices.kubeedge.io/v1beta1/namespaces/default/devices', lamp)).toMatchObject({ status: 201 })
      await using set = new Holdfast('twin', 'set', 'lamp', 'brightness=80', '--kubeconfig', await up.shows(/twin set lamp brightness=80 --kubeconfig '([^']+)'/))
      expect(await set.ended()).toBe(0)
      const twin = await up.shows(/curl -X PATCH --json '[^']+' (\S+)/)
      await until('the node knows what is desired of the lamp', async () => (await (await fetch(twin)).text()).includes('brightness'))
      const patch = { method: 'PATCH', headers: { 'content-type': 'application/json' }, body: '{"brightness":80}' }
      expect((await fetch(twin, patch)).status).toBe(200)
      await until('the cluster has what the lamp says', async () => {
        const { body } = await cluster.send<object>('GET', '/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicestatuses/lamp')
        return JSON.stringify(body).includes('"reported":{"value":"80"')
      })

      await using nodes = new Holdfast('get', 'nodes', '--cloud', cloud, '-o', 'json')
      expect(await nodes.ended()).toBe(0)
      expect(JSON.parse(nodes.output))
        .toMatchObject([{ name: 'edge-1', connected: true, lanes: [{ lane: 'telemetry', records: 2 }] }])

      await using lines = new Holdfast('records', '--cloud', cloud, '-o', 'json', '--limit', '1')
      expect(await lines.ended()).toBe(0)
      const payload = Buffer.from('{"celsius":81}').toString('base64')
      expect(JSON.parse(lines.output)).toMatchObject({ offset: 0, payload })

      // As `holdfast records | head` does.
      await using unread = new Holdfast('records', '--cloud', cloud, '--follow')
      await unread.shows(/82\}\n/)
      unread.stopReading()
      await until('holdfast has noticed that nobody reads on', async () => {
        await fetch(device, { method: 'POST', body: '{"celsius":83}' })
        return !unread.running
      })
      expect(await unread.ended()).toBe(0)
      expect(unread.errors).toBe('')

      await using second = new Holdfast('up', '--free-ports', '--data-dir', dataDir)
      expect(await second.ended()).toBe(1)
      expect(second.errors).toMatch(/cloudcore is running on .* already .*\[UP_ALREADY_RUNNING\]/)
      expect(second.errors).toContain(`kill ${processes(up).join(' ')};`)

      const startedMs = performance.now()
      expect(await up.ended('SIGINT')).toBe(0)
      expect(performance.now() - startedMs).toBeLessThan(5000)
      expect(processes(up)).toHaveLength(2)
      expect(processes(up).filter(alive)).toEqual([])
    }
    await using again = new Holdfast('up', '--free-ports', '--data-dir', dataDir)
    const cloud = await again.shows(/--cloud (\S+) --follow/)
    expect(again.errors).not.toContain('has joined')
    await using records = new Holdfast('records', '--cloud', cloud, '--limit', '2')
    expect(await records.ended()).toBe(0)
    expect(records.output).toMatch(/^TIME .*\n.*"celsius":81\}\n.*"celsius":82\}\n$/)
  })

  it('ends with the code of a daemon that ended, says which one, and stops the other', async () => {
    await using folder = await temporaryFolder()
    await using up = new Holdfast('up', '--free-ports', '--data-dir', folder.path, '--node', 'porch')
    await up.shows(ctrlC)
    const [cloudcore = 0, edgecore = 0] = processes(up)
    process.kill(edgecore, 'SIGKILL')
    expect(await up.ended()).toBe(137)
    expect(up.errors).toMatch(/edgecore ended with code 137, so the rest is stopped; the end of .*edgecore\.log:\n.*is ready/)
    expect(alive(cloudcore)).toBe(false)
  })
})

describe('holdfast up, beside what it did not start', () => {
  it('says which processes a killed one left running', async () => {
    await using folder = await temporaryFolder()
    const first = new Holdfast('up', '--free-ports', '--data-dir', folder.path)
    await first.shows(ctrlC)
    await first.ended('SIGKILL')
    try {
      await using second = new Holdfast('up', '--free-ports', '--data-dir', folder.path)
      expect(await second.ended()).toBe(1)
      expect(second.errors).toContain(`kill ${processes(first).join(' ')};`)
    } finally {
      for (const pid of processes(first)) process.kill(pid, 'SIGTERM')
      await until('the daemons have ended', () => !processes(first).some(alive))
    }
  })

  it.each([
    ['cloud/endpoints.json', /endpoints\.json cannot be used .*: remove it if no daemon/],
    ['edge/identity/identity.json', /identity\.json cannot be used .*: restore it/]
  ])('names %s where it is damaged', async (name, message) => {
    await using folder = await temporaryFolder()
    await mkdir(dirname(join(folder.path, name)), { recursive: true })
    await writeFile(join(folder.path, name), '{"torn')
    await using up = new Holdfast('up', '--free-ports', '--data-dir', folder.path)
    expect(await up.ended()).toBe(1)
    expect(up.errors).toMatch(message)
    expect(up.errors).toContain(folder.path)
  })
})

describe('holdfast', () => {
  it('says what is wrong with a command line, and ends with 2', async () => {
    await using wrong = new Holdfast('recrods', '--node', 'edge-1')
    expect(await wrong.ended()).toBe(2)
    expect(wrong.errors).toBe('unknown command "recrods": did you mean "records"?\n')
    expect(wrong.output).toBe('')
  })

  it('says what to start where nothing listens, and ends with 1', async () => {
    const port = await lastingPort()
    await using nodes = new Holdfast('get', 'nodes', '--cloud', `http://127.0.0.1:${port}`)
    expect(await nodes.ended()).toBe(1)
    expect(nodes.errors).toMatch(/^holdfast: nothing listens at .*holdfast up.*\n$/)
  })
})
