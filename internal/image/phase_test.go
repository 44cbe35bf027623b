package image
import ("testing";"time";"os";"bytes")
func TestPhases(t *testing.T){
 data,err:=os.ReadFile("/tmp/bench.tar"); if err!=nil {t.Fatal(err)}
 for i:=0;i<3;i++{
 s,_:=Open(t.TempDir()+"/x",Options{})
 w,_:=os.MkdirTemp(s.path(tmpDir),"load-")
 t0:=time.Now()
 sp,err:=spoolTar(t.Context(),bytes.NewReader(data),w,s.newRoom()); if err!=nil{t.Fatal(err)}
 t1:=time.Now()
 c,err:=sp.images(); if err!=nil{t.Fatal(err)}
 _,err=s.unpackLayer(t.Context(),c[0].blobs[0],c[0].record.Layers[0].DiffID,w+"/l",s.newRoom()); if err!=nil{t.Fatal(err)}
 t2:=time.Now()
 syncfs(w)
 t3:=time.Now()
 
 t4:=time.Now()
 t.Logf("spool %v unpack %v sync %v rm %v",t1.Sub(t0),t2.Sub(t1),t3.Sub(t2),t4.Sub(t3))
 }
}
